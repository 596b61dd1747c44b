// Read an address that a user pasted into the form: a launch link, a file or request on a forge, or a repository.
const decode = (text) => { try { return decodeURIComponent(text); } catch { return text; } };
const FILE = /^(https?:\/\/[^/]+\/[^/]+\/[^/]+)\/(?:tree|blob|raw|commit|releases\/tag)\/([^/?#]+)\/?([^?#]*)/;
const REQUEST = /^(https?:\/\/[^/]+\/[^/]+\/[^/]+)\/pull\/(\d+)/;
const PROJECT_FILE = /^(https?:\/\/.+?)\/-\/(?:tree|blob|raw|commit|tags)\/([^/?#]+)\/?([^?#]*)/;
const PROJECT_REQUEST = /^(https?:\/\/.+?)\/-\/merge_requests\/(\d+)/;
// sites that show files of GitHub, with the path of the file's page there
const VIEWER = /^https?:\/\/(?:nbviewer\.(?:jupyter\.)?org|colab\.research\.google\.com)\/github\//;
const RAW = /^https?:\/\/raw\.githubusercontent\.com\/([^/]+\/[^/]+)\/(?:refs\/heads\/)?/;
const LAUNCH = /^https?:\/\/[^?#]*?\/v2\/([a-z]+)\/([^?#]+)\??([^#]*)/;

const named = (repo, ref = "", path = "") => ({ repo, ref: decode(ref), path: decode(path).replace(/\/+$/, "") });

function onForge(text) {
  let found;
  if ((found = text.match(REQUEST))) return named(found[1], `refs/pull/${found[2]}/head`);
  if ((found = text.match(PROJECT_REQUEST))) return named(found[1], `refs/merge-requests/${found[2]}/head`);
  if ((found = text.match(PROJECT_FILE) ?? text.match(FILE))) return named(...found.slice(1));
  return named(text);
}

// A path to open is a file in JupyterLab if it is below the file browser's path, else a path on the server.
function opened(query) {
  const given = new URLSearchParams(query);
  const file = given.get("labpath") ?? given.get("filepath");
  if (file) return { path: file, opens: "labpath" };
  return given.get("urlpath") ? { path: given.get("urlpath"), opens: "urlpath" } : {};
}

function ofLaunch([, kind, spec, query], kinds) {
  const { encode, ref } = kinds.find(({ id }) => id === kind) ?? {};
  if (encode === undefined) return null;
  const parts = spec.replace(/\/+$/, "").split("/");
  // a kind without refs has nothing after the repository, and DOIs have more slashes than one
  const repo = parts.splice(0, !ref ? parts.length : encode ? 1 : 2).map(decode).join("/");
  return { kind, ...named(repo, parts.join("/")), ...opened(query) };
}

// Return `{kind, repo, ref, path, opens}` for what `text` names, or null. `kinds` are the form's kinds of repository.
export function read(text, kinds) {
  const launch = text.match(LAUNCH);
  if (launch) return ofLaunch(launch, kinds);
  const plain = text.replace(VIEWER, "https://github.com/").replace(RAW, "https://github.com/$1/blob/");
  const found = onForge(plain);
  const kind = kinds.find(({ detect, pattern }) => detect && new RegExp(pattern).test(found.repo))
    ?? kinds.find(({ pattern }) => new RegExp(pattern).test(found.repo));
  return kind ? { kind: kind.id, opens: "labpath", ...found } : null;
}
