// The live log: bounded, updated in batches. It scrolls to its end unless the reader has scrolled up.

import { ngettext } from "./texts.js";

const KEPT = 2000;
const ANSI = /\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07/g;

export class Log {
  constructor(box, counter) {
    this.box = box;
    this.counter = counter;
    this.clear();
  }

  clear() {
    this.lines = [];
    this.waiting = [];
    this.total = 0;
    this.box.replaceChildren();
    this.counter.textContent = "";
  }

  append(text) {
    for (const line of text.replace(ANSI, "").replace(/\n$/, "").split("\n")) {
      this.waiting.push(line.replace(/\r$/, "").split("\r").pop()); // the last state of a progress bar
    }
    if (!this.scheduled) {
      this.scheduled = setTimeout(() => this.show(), 50); // unlike an animation frame, a timer also runs in a hidden tab
    }
  }

  show() {
    clearTimeout(this.scheduled);
    this.scheduled = null;
    const follows = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 40;
    this.total += this.waiting.length;
    const fresh = this.waiting.splice(0).slice(-KEPT);
    this.lines = this.lines.concat(fresh).slice(-KEPT);
    this.box.append(...fresh.map((line) => {
      const row = document.createElement("div");
      row.textContent = line || "\u00a0";
      return row;
    }));
    while (this.box.childElementCount > KEPT) this.box.firstElementChild.remove();
    if (follows) this.box.scrollTop = this.box.scrollHeight;
    this.counter.textContent = ngettext("%(number)s line", "%(number)s lines", this.total, { number: this.total });
  }

  last(count) {
    this.show();
    return this.lines.slice(-count);
  }
}
