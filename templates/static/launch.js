// Follow a launch's event stream, show its progress, and open the server.
import { copy } from "./copy.js";
import { enter, serverOf } from "./enter.js";
import { Events } from "./events.js";
import { showGrant } from "./grant.js";
import { remember } from "./history.js";
import { Log } from "./log.js";
import { showPreview } from "./preview.js";
import { gettext } from "./texts.js";
import { duration } from "./units.js";

const RETRIES = 8;
const STEPS = ["resolve", "build", "launch", "ready"];
const STEP_OF = {
  waiting: "resolve", fetching: "build", building: "build", built: "build", launching: "launch", ready: "ready",
};
const TITLE = {
  resolve: gettext("Starting"), build: gettext("Building"), launch: gettext("Launching"), ready: gettext("Ready"),
  failed: gettext("Failed"),
};

const page = document.getElementById("launch");
const part = (id) => document.getElementById(id);
const { stream, urlpath, name, base } = page.dataset;
const log = new Log(part("log").querySelector(".lines"), part("count"));
let began = Date.now();
let step = null;
let since = began;
let tries = 0;
let events = null;
let shown = ""; // the launch whose events the log shows
let ended = false;
let said = "";
let built = false; // whether the build has started, so that the log has more than git's output

// Only this history entry has a launch and an answer, so no other page continues them; a copy of the tab does not.
const reloaded = performance.getEntriesByType("navigation")[0]?.type === "reload";

const row = (id) => part("phases").querySelector(`[data-phase="${id}"]`);
const seconds = (from) => Math.round((Date.now() - from) / 1000);

function say(text) {
  const line = text.trim().split("\n").pop();
  if (line) part("status").textContent = line.replace(/\x1b\[[0-9;]*m/g, "");
}

function look(state, icon) {
  document.title = `${TITLE[state]}: ${name} | Pangeo Binder`;
  document.querySelector("link[rel=icon]").href = page.dataset[icon];
}

function mark(id, state, word) {
  const item = row(id);
  item.dataset.state = state;
  item.querySelector(".state").textContent = word ? `, ${word}` : "";
  if (state === "now") item.setAttribute("aria-current", "step");
  else item.removeAttribute("aria-current");
}

function tick() {
  if (ended) return;
  part("elapsed").textContent = duration(seconds(began));
  if (step) row(step).querySelector(".took").textContent = duration(seconds(since));
}

function advance(next) {
  if (next === step) return;
  tick();
  for (const id of STEPS) {
    const distance = STEPS.indexOf(id) - STEPS.indexOf(next);
    if (distance < 0) mark(id, "done", gettext("done"));
    if (distance === 0) mark(id, "now", gettext("in progress"));
    if (distance > 0) mark(id, "todo", "");
  }
  step = next;
  since = Date.now();
  look(next, next === "ready" ? "iconReady" : "iconBusy");
}

function finish() {
  tick();
  ended = true;
  events.stop();
}

async function ready(event) {
  finish();
  mark("ready", "done", gettext("done"));
  say(gettext("Your server is ready. Opening it."));
  remember(serverOf(event.url).pathname, location.href);
  const link = part("enter");
  await enter(event.url, event.token || "", urlpath, (href) => {
    link.querySelector("a").href = href;
    link.hidden = false;
  });
}

function report(event) {
  const lines = [
    `Link: ${location.href}`, `Time: ${new Date().toISOString()}`, `After: ${duration(seconds(began))}, in ${step || "resolve"}`,
    `Reason: ${event.reason || "none given"}`, event.message.trim(), event.hint || "", "", ...log.last(100),
  ];
  return lines.join("\n");
}

function fail(event) {
  finish();
  // trying again is a new launch, unless only the connection was lost
  if (event.reason !== "connection") history.replaceState({ ...history.state, launch: "" }, "");
  mark(step || "resolve", "failed", gettext("failed"));
  look("failed", "iconFailed");
  say(gettext("The launch has failed. The reason and what to do are below."));
  const box = part("failure");
  box.querySelector(".sentence").textContent = event.message.trim();
  box.querySelector(".hint").textContent = event.hint || "";
  if (event.reason === "ref_not_found" && part("default")) part("default").hidden = false;
  const lines = built ? log.last(20) : [];
  box.querySelector(".lines").textContent = lines.join("\n");
  if (lines.length) part("log").open = false; // the box shows its last lines
  box.querySelector("h3").hidden = box.querySelector(".lines").hidden = lines.length === 0;
  part("again").addEventListener("click", () => location.reload());
  part("report").addEventListener("click", async () => {
    part("reported").textContent = (await copy(report(event))) ? gettext("Copied") : gettext("The browser does not allow copying.");
  });
  box.hidden = false;
  box.querySelector(".lines").scrollTop = box.querySelector(".lines").scrollHeight;
  box.focus();
}

function follow(event) {
  if (ended) return;
  tries = 0;
  if (part("sign-in") && (event.login || event.reason === "login_needed")) part("sign-in").hidden = false;
  if (events.launch !== shown) {
    log.clear(); // a new launch repeats all events from the start
    shown = events.launch;
    history.replaceState({ ...history.state, launch: shown }, ""); // a reload continues it
  }
  if (event.grant) showGrant(part("grant"), event.grant);
  if (event.phase === "failed") return fail(event);
  if (STEP_OF[event.phase]) advance(STEP_OF[event.phase]);
  if (event.message) log.append(event.message);
  if (event.phase === "building" && !built) {
    built = true;
    part("log").open = true;
    if (page.dataset.preview) showPreview(part("preview"), page.dataset.preview);
  }
  if (event.phase === "ready") {
    return ready(event).catch(() => fail({ message: gettext("The server's URL is not valid."), hint: gettext("Try again.") }));
  }
  // a screen reader reads each status aloud, so the many lines of a build go to the log only
  if (event.position) say(gettext("The service is full. You are number %(position)s in the queue.", event));
  else if (event.phase !== "building") say(event.message);
  else if (said !== "building") say(gettext("Building the environment. The log shows the progress."));
  said = event.phase;
}

async function connect() {
  await events.read(follow).catch(() => {});
  if (ended) return;
  tries += 1;
  if (tries > RETRIES) {
    const message = gettext("The connection to this service was lost.");
    fail({ message, hint: gettext("Check your network, then try again."), reason: "connection" });
  } else {
    say(gettext("The connection was lost. Reconnecting."));
    said = "";
    setTimeout(connect, Math.min(500 * 2 ** tries, 15000));
  }
}

function leave() {
  if (ended || !events) return;
  ended = true;
  events.stop();
  events.abandon();
  window.addEventListener("pageshow", () => location.reload()); // the browser kept the page, and shows it again
}

part("log").addEventListener("toggle", () => log.show());
function begin() {
  began = Date.now();
  setInterval(tick, 1000);
  advance("resolve");
  say(gettext("Connecting"));
  events = new Events(stream, reloaded && history.state?.launch || "");
  window.addEventListener("pagehide", leave);
  if (stream.startsWith(`${base}build/`)) connect();
}

// Ask a user who came from another page. The button starts disabled, to ignore a click that was meant for that page.
// A reload continues: only this page's own history entry says that its user has answered, and no other page reloads it.
function ask(box) {
  const go = part("go");
  const answered = () => { box.remove(); begin(); };
  if (reloaded && history.state?.answered === true) return answered();
  setTimeout(() => { go.disabled = false; }, 1000);
  go.addEventListener("click", () => {
    history.replaceState({ ...history.state, answered: true }, "");
    answered();
  });
}

if (part("ask")) ask(part("ask"));
else begin();
