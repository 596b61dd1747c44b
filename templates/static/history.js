// Remember each session's launch link in this browser only, so that the page of an ended session can offer it.

const KEY = "pangeo-binder-links";
const KEPT = 20;

function read() {
  try {
    const links = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(links) ? links : [];
  } catch {
    return [];
  }
}

export function remember(server, link) {
  const links = [{ server, link }, ...read().filter((entry) => entry.server !== server)];
  try {
    localStorage.setItem(KEY, JSON.stringify(links.slice(0, KEPT)));
  } catch {
    // storage is full or disabled; the page works without it
  }
}

// Return the launch link of the session at `path`. Servers without a host of their own may write to this storage, so
// accept only links to our own launch pages.
export function recall(path, base) {
  const entry = read().find(({ server }) => typeof server === "string" && path.startsWith(server));
  if (!entry) return null;
  try {
    const link = new URL(entry.link, location.origin);
    return link.origin === location.origin && link.pathname.startsWith(`${base}v2/`) ? link.href : null;
  } catch {
    return null;
  }
}
