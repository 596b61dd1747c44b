// Remembers, in this browser only, which link a session came from, so that its end can offer it again.

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
    // storage is full or switched off; the page works without
  }
}

// The launch link of the session at `path`. Servers share our origin and may write here, so only a link to one of our
// own launch pages is believed.
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
