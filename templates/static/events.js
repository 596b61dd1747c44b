// Read a stream of server-sent events. Unlike an EventSource, a stream that is opened again after any failure, also an
// answer of a proxy, names the last event that was read, so that the service continues the same launch.

export class Events {
  // `launch` is what an earlier page of the same launch had as `launch`; its events are then read from the first one.
  constructor(url, launch = "") {
    this.url = url;
    this.last = launch ? `${launch}.0` : "";
    this.stopped = new AbortController();
  }

  // Which launch the last event was of; another one after a connection means that the events start anew.
  get launch() {
    return this.last.split(".")[0];
  }

  #headers(more) {
    return this.last ? { ...more, "Last-Event-ID": this.last } : more;
  }

  // Call `follow` with the data of each event until the stream ends; throw if the connection or the answer fails.
  async read(follow) {
    const headers = this.#headers({ Accept: "text/event-stream" });
    const response = await fetch(this.url, { headers, cache: "no-store", signal: this.stopped.signal });
    if (!response.ok || !response.body) throw new Error(`The service answered ${response.status}.`);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.#dispatch(block, follow);
    }
  }

  #dispatch(block, follow) {
    const data = [];
    for (const line of block.split("\n")) {
      if (line.startsWith("data: ")) data.push(line.slice(6));
      if (line.startsWith("id: ")) this.last = line.slice(4);
    }
    if (data.length) follow(JSON.parse(data.join("\n")));
  }

  stop() {
    this.stopped.abort();
  }

  // Say that this page leaves, so that the service ends the launch in a few seconds unless the page was reloaded.
  abandon() {
    if (!this.last) return;
    fetch(this.url, { method: "DELETE", headers: this.#headers({}), keepalive: true }).catch(() => {});
  }
}
