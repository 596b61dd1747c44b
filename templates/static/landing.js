// Update the launch link and its badges while the user fills in the form.
import { isAddress, read } from "./address.js";
import { copy } from "./copy.js";
import { gettext } from "./texts.js";

const form = document.getElementById("maker");
const field = (name) => form.elements[name];
const encodeParts = (text) => text.split("/").map(encodeURIComponent).join("/");

const kindOf = ({ value, dataset }) => ({ id: value, ...dataset, encode: dataset.encode === "true" });
const provider = () => kindOf(field("provider").selectedOptions[0]);

// Fill the other fields from the address of a file, a request or a launch link, and choose its kind of repository.
function fill() {
  const text = field("repo").value.trim();
  if (!isAddress(text)) return;
  const found = read(text, [...field("provider").options].map(kindOf));
  if (!found || (new RegExp(provider().pattern).test(text) && found.repo === text)) return;
  field("provider").value = found.kind;
  field("repo").value = found.repo;
  if (found.ref) field("ref").value = found.ref;
  if (!found.path) return;
  field("kind").value = found.opens;
  field("path").value = found.path;
}

function repository({ detect, encode, pattern }) {
  let text = field("repo").value.trim();
  if (pattern && !new RegExp(pattern).test(text)) return "";
  const found = detect ? text.match(new RegExp(detect)) : null;
  if (found?.groups?.repo) text = found.groups.repo;
  return encode ? encodeURIComponent(text) : encodeParts(text.replace(/^\/+|\/+$/g, ""));
}

// Return the link, or an empty string while the form does not name a repository.
function link() {
  const kind = provider();
  const repo = repository(kind);
  if (!repo) return "";
  const ref = kind.ref ? `/${encodeParts(field("ref").value.trim() || kind.ref)}` : "";
  const path = field("path").value.trim().replace(/^\/+/, "");
  const query = path ? `?${field("kind").value}=${encodeURIComponent(path)}` : "";
  return `${location.origin}${form.dataset.base}v2/${kind.id}/${repo}${ref}${query}`;
}

function snippets(url) {
  if (!url) return { url: "", markdown: "", rst: "", html: "" };
  const badge = `${location.origin}${form.dataset.base}badge_logo.svg`;
  const safe = url.replace(/[()!'*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
  return {
    url: safe,
    markdown: `[![Launch](${badge})](${safe})`,
    rst: `.. image:: ${badge}\n   :alt: Launch\n   :target: ${safe}`,
    html: `<a href="${safe.replace(/&/g, "&amp;")}"><img src="${badge}" alt="Launch"></a>`,
  };
}

function update() {
  const kind = provider();
  document.getElementById("repo-label").textContent = kind.label;
  document.getElementById("ref-field").hidden = !kind.ref;
  field("repo").placeholder = kind.placeholder;
  field("ref").placeholder = kind.ref;
  for (const [id, text] of Object.entries(snippets(link()))) {
    document.getElementById(`made-${id}`).value = text;
    document.querySelector(`[data-copies="made-${id}"]`).disabled = !text;
  }
  if (link()) problem("");
}

function problem(text) {
  document.getElementById("problem").textContent = text;
  field("repo").setAttribute("aria-invalid", text ? "true" : "false");
}

function launch(event) {
  event.preventDefault();
  if (link()) return location.assign(snippets(link()).url);
  const given = field("repo").value.trim();
  const example = { placeholder: provider().placeholder };
  problem(given ? gettext("This is not a valid repository. Enter, for example, %(placeholder)s", example) : gettext("Enter a repository first."));
  field("repo").focus();
}

async function copyOf(event) {
  const button = event.currentTarget;
  const done = await copy(document.getElementById(button.dataset.copies).value);
  document.getElementById("copied").textContent = button.textContent = done ? gettext("Copied") : gettext("Select and copy");
  setTimeout(() => { button.textContent = gettext("Copy"); }, 2000);
}

form.addEventListener("input", (event) => {
  if (event.inputType === "insertFromPaste" && event.target === field("repo")) fill();
  update();
});
field("repo").addEventListener("change", () => { fill(); update(); });
form.addEventListener("submit", launch);
document.querySelectorAll("[data-copies]").forEach((button) => button.addEventListener("click", copyOf));
document.querySelectorAll("textarea[readonly]").forEach((area) => area.addEventListener("focus", () => area.select()));
update();
