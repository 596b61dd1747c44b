// Format amounts for people.
import { decimal } from "./texts.js";

export function bytes(amount) {
  const units = ["B", "KB", "MB", "GB", "TB", "PB"];
  // policies use powers of 1024 and of 1000; show the one that gives a round number
  const step = amount % 1024 === 0 && amount % 1000 !== 0 ? 1024 : 1000;
  let power = 0;
  while (amount >= step && power < units.length - 1) {
    amount /= step;
    power += 1;
  }
  return `${decimal(amount, amount < 10 ? 1 : 0)} ${step === 1024 && power ? units[power].replace("B", "iB") : units[power]}`;
}

export function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) return "0 s";
  const [size, unit] = parts[first];
  const rest = parts[first + 1];
  const whole = Math.floor(seconds / size);
  const left = rest ? Math.floor((seconds % size) / rest[0]) : 0;
  return left ? `${whole} ${unit} ${left} ${rest[1]}` : `${whole} ${unit}`;
}

