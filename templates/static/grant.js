// Show what a launch gets, from the `grant` of an event.
import { decimal, gettext, ngettext } from "./texts.js";
import { bytes, duration } from "./units.js";

function both(cores, memory) {
  const values = { number: decimal(cores, 2), memory: bytes(memory) };
  return ngettext("%(number)s core, %(memory)s memory", "%(number)s cores, %(memory)s memory", cores, values);
}

function rows({ server, dask, storage }) {
  const list = [[gettext("Notebook"), both(server.cpu, server.memory_bytes)]];
  if (dask) {
    const workers = { number: decimal(dask.workers, 2), each: both(dask.worker_cores, dask.worker_memory_bytes) };
    list.push(["Dask", ngettext("up to %(number)s worker of %(each)s", "up to %(number)s workers of %(each)s", dask.workers, workers)]);
    list.push([gettext("Dask in total"), both(dask.cores, dask.memory_bytes)]);
  } else {
    list.push(["Dask", gettext("no cluster for this launch")]);
  }
  if (storage) {
    const kept = { size: bytes(storage.scratch_bytes), time: duration(storage.keep_seconds) };
    list.push([gettext("Scratch"), gettext("%(size)s, kept %(time)s after the end", kept)]);
    if (storage.read.length) list.push([gettext("Data to read"), storage.read.join(", ")]);
    if (storage.egress_bytes) list.push([gettext("Reading in total"), bytes(storage.egress_bytes)]);
  }
  const ends = { idle: duration(server.idle_seconds), age: duration(server.max_age_seconds) };
  list.push([gettext("Ends"), gettext("after %(idle)s idle, or %(age)s in total", ends)]);
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
