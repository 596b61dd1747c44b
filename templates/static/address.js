// Read an address that a user pasted into the form: a launch link or its badge, a page of a forge, a DOI, or a repository.
// The commands read the same addresses: pangeo_binder/repos/pasted.py. A test compares the two.
const decode = (text) => { try { return decodeURIComponent(text); } catch { return text; } };

// pages with a badge, as READMEs have it
const SNIPPET = /\]\(|:target:|href=/;
const BADGE_TARGET = /https?:\/\/[^\s"'<>()]+\/(?:v2|repo)\/[^\s"'<>()]+/;
const LAUNCH = /^https?:\/\/[^?#\s]*?\/v2\/([A-Za-z0-9-]+)\/([^?#\s]+)\??([^#\s]*)/;
const OLD_LAUNCH = /^https?:\/\/[^?#\s/]*binder[^?#\s/]*\/repo\/([^/?#\s]+\/[^/?#\s]+)\/?([^?#\s]*)\??([^#\s]*)/;
const DOI = /^(?:doi:|https?:\/\/(?:dx\.)?doi\.org\/)?10\.\d{4,9}\//i;
const GIST_HOST = /^(?:https?:\/\/|(?:ssh:\/\/)?git@)gist\.github\.com[/:]/; // without its owner, a gist has no link
const HOST_ONLY = /^(?:[\w-]+\.)+[a-z]{2,}\/\S/;

// sites that show files of other hosts, and the address of the file there
const VIEWERS = [
  [/^git\+(?=https?:)/, ""],
  [/^https?:\/\/(?:nbviewer\.(?:jupyter\.)?org|colab\.research\.google\.com)\/github\//, "https://github.com/"],
  [/^https?:\/\/(?:nbviewer\.(?:jupyter\.)?org|colab\.research\.google\.com)\/gist\//, "https://gist.github.com/"],
  [/^https?:\/\/nbviewer\.(?:jupyter\.)?org\/urls\//, "https://"],
  [/^https?:\/\/nbviewer\.(?:jupyter\.)?org\/url\//, "http://"],
  [/^https?:\/\/(?:github\.dev|codespaces\.new|vscode\.dev\/github|githubtocolab\.com)\//, "https://github.com/"],
  [/^https?:\/\/raw\.githubusercontent\.com\/([^/]+\/[^/]+)\//, "https://github.com/$1/blob/"],
  [/^https?:\/\/gist\.githubusercontent\.com\/([^/]+\/[^/]+)\/raw\//, "https://gist.github.com/$1/"],
];

// pages of forges: a pattern, and the repository, ref and path in what it finds
const REPO = String.raw`^(https?:\/\/[^/\s?#]+\/[^/\s?#]+\/[^/\s?#]+)\/`;
const PROJECT = String.raw`^(https?:\/\/[^\s?#]+?)\/-\/`;
const REF_AND_PATH = String.raw`(?:refs\/(?:heads|tags)\/)?([^/?#]+)\/?([^?#]*)`;
const NAMES = String.raw`(?:[^?#]*?\.\.\.?)?([^?#]+)`;
const PAGES = [
  [/^(https?:\/\/gist\.github\.com\/[\w-]+\/[0-9a-f]+)(?:\/([0-9a-f]{40}))?(?:\/([^?#/]*\.[^?#/]*))?(?:[/?#].*)?$/, (repo, ref, path) => [repo, ref, path]],
  [new RegExp(`${REPO}pull/\\d+/commits/([0-9a-f]{40})`), (repo, ref) => [repo, ref]],
  [new RegExp(`${REPO}pulls?/(\\d+)`), (repo, number) => [repo, `refs/pull/${number}/head`]],
  [new RegExp(`${PROJECT}merge_requests/(\\d+)`), (repo, number) => [repo, `refs/merge-requests/${number}/head`]],
  [new RegExp(`${PROJECT}compare/${NAMES}`), (repo, ref) => [repo, ref]],
  [new RegExp(`${PROJECT}(?:tree|blob|raw|blame|edit|commits?|tags|releases)/${REF_AND_PATH}`), (...found) => found],
  [new RegExp(`${PROJECT}`), (repo) => [repo]],
  [new RegExp(`${REPO}compare/${NAMES}`), compared],
  [new RegExp(`${REPO}archive/(?:refs/(?:heads|tags)/)?([^?#]+?)\\.(?:zip|tar\\.gz)`), (repo, ref) => [repo, ref]],
  [new RegExp(`${REPO}src/(?:branch|tag|commit)/${REF_AND_PATH}`), (...found) => found],
  [/^(https?:\/\/bitbucket\.org\/[^/\s]+\/[^/\s]+)\/src\/([^/?#]+)\/?([^?#]*)/, (...found) => found],
  [new RegExp(`${REPO}(?:tree|blob|raw|blame|edit|commits?|releases/tag)/${REF_AND_PATH}`), (...found) => found],
];

// GitHub names a branch of a fork as `user:branch` or `user:repository:branch`.
function compared(repo, head) {
  const names = decode(head).split(":");
  if (names.length === 1) return [repo, head];
  const parts = repo.split("/");
  parts[3] = names[0];
  if (names.length > 2) parts[4] = names[1];
  return [parts.join("/"), names[names.length - 1]];
}

const named = (repo, ref = "", path = "") => ({ repo, ref: decode(ref), path: decode(path).replace(/\/+$/, "") });

function onForge(text) {
  for (const [pattern, parts] of PAGES) {
    const found = text.match(pattern);
    if (found) return named(...parts(...found.slice(1)));
  }
  return named(text);
}

// A path to open is a file in JupyterLab if it is below the file browser's path, else a path on the server.
function opened(query) {
  const given = new URLSearchParams(query);
  // a path with a query of its own that is not quoted: the rest of the link belongs to it
  const nested = query.match(/(?:^|&)urlpath=([^&?]*\?.*)$/);
  const urlpath = nested ? nested[1] : given.get("urlpath");
  if (urlpath) return { path: urlpath, opens: "urlpath" };
  const file = given.get("labpath") || given.get("filepath");
  return file ? { path: file, opens: "labpath" } : {};
}

function ofLaunch([, kind, spec, query], kinds) {
  const form = kinds.find(({ id }) => id === kind);
  if (!form) return null;
  const parts = spec.replace(/\/+$/, "").split("/");
  const names = parts.splice(0, form.ref ? (form.encode ? 1 : 2) : parts.length).map(decode);
  if (form.ref && !form.encode && names.some((name) => name.includes("/"))) return null;
  let repo = names.join("/");
  if (/^[^/]*%(?:2F|3A)[^/]*$/i.test(repo)) repo = decode(repo); // some badges are quoted twice
  return { kind, ...named(repo, parts.join("/")), ...opened(query) };
}

const matches = (kind, text) => kind.detect && new RegExp(kind.detect).test(text);

// The address itself, then shorter ones, because a forge has other pages below a repository's address.
function* prefixes(address) {
  yield address;
  const parts = address.split(/[?#]/, 1)[0].replace(/\/+$/, "").split("/");
  for (; parts.length >= 5; parts.pop()) yield parts.join("/");
}

// Return `{kind, repo, ref, path, opens}` for what `text` names, or null. `kinds` are the form's kinds of repository.
export function read(text, kinds) {
  if (SNIPPET.test(text)) text = (text.match(BADGE_TARGET) ?? [""])[0].replace(/&amp;/g, "&");
  const launch = text.match(LAUNCH);
  if (launch) return ofLaunch(launch, kinds);
  const old = text.match(OLD_LAUNCH);
  if (old) return ofLaunch([old[0], "gh", `${old[1]}/${old[2]}`, old[3]], kinds);
  if (DOI.test(text)) {
    const archive = kinds.find((kind) => !kind.ref && matches(kind, text));
    return archive ? { kind: archive.id, opens: "labpath", ...named(text) } : null;
  }
  const complete = HOST_ONLY.test(text) ? `https://${text}` : text;
  const found = onForge(VIEWERS.reduce((address, [site, to]) => address.replace(site, to), complete));
  for (const repo of prefixes(found.repo)) {
    const kind = kinds.find((each) => matches(each, repo));
    if (kind) return { kind: kind.id, opens: "labpath", ...found, repo };
  }
  const kind = complete === text && !GIST_HOST.test(found.repo) ? kinds.find((each) => !each.detect && new RegExp(each.pattern).test(found.repo)) : null;
  return kind ? { kind: kind.id, opens: "labpath", ...found } : null;
}

// Whether `text` may be an address, and not a repository's name of the chosen kind.
export const isAddress = (text) => text.includes(":") || DOI.test(text) || HOST_ONLY.test(text);
