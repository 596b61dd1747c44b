// Show what a launch gets, from the `grant` of an event.
import { bytes, count, duration } from "./units.js";

function rows({ server, dask, storage }) {
  const list = [["Notebook", `${count(server.cpu, "core")}, ${bytes(server.memory_bytes)} memory`]];
  if (dask) {
    const each = `${count(dask.worker_cores, "core")} and ${bytes(dask.worker_memory_bytes)}`;
    list.push(["Dask", `up to ${count(dask.workers, "worker")} of ${each}`]);
    list.push(["Dask in total", `${count(dask.cores, "core")}, ${bytes(dask.memory_bytes)} memory`]);
  } else {
    list.push(["Dask", "no cluster for this launch"]);
  }
  if (storage) {
    list.push(["Scratch", `${bytes(storage.scratch_bytes)}, kept ${duration(storage.keep_seconds)} after the end`]);
    if (storage.read.length) list.push(["Data to read", storage.read.join(", ")]);
    if (storage.egress_bytes) list.push(["Reading in total", bytes(storage.egress_bytes)]);
  }
  list.push(["Ends", `after ${duration(server.idle_seconds)} idle, or ${duration(server.max_age_seconds)} in total`]);
  return list;
}

export function showGrant(card, grant) {
  const list = card.querySelector("dl");
  list.replaceChildren();
  for (const [name, value] of rows(grant)) {
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    list.append(term, text);
  }
  card.querySelector(".why").textContent = grant.reason || "";
  card.hidden = false;
}
