// Open a server that is ready, without its token in the address bar or the history.

// Return the URL of `urlpath` in the server, or the server's URL if the path would leave the server.
export function inside(server, urlpath) {
  try {
    const target = new URL(server.href + urlpath.replace(/^\//, ""));
    const stays = target.origin === server.origin && target.pathname.startsWith(server.pathname);
    return stays ? target : server;
  } catch {
    return server;
  }
}

// Return the server's URL from an event: http or https only, with a slash at the end, without query and fragment.
export function serverOf(url) {
  const server = new URL(url, location.href);
  if (!/^https?:$/.test(server.protocol)) throw new Error("not a web address");
  return new URL(server.pathname.replace(/\/*$/, "/"), server.origin);
}

// Log in: a Jupyter server answers a request with its token with a cookie, and later accepts the cookie alone.
async function signIn(server, token) {
  const status = new URL("api/status", server);
  const options = { credentials: "same-origin", cache: "no-store", redirect: "error" };
  const first = await fetch(status, { ...options, headers: { Authorization: `token ${token}` } });
  if (!first.ok) return false;
  return (await fetch(status, options)).ok;
}

// Whether the server has a host of its own below ours, so that only a form may send it the token.
function isBelowUs(server) {
  return server.protocol === location.protocol && server.host.endsWith(`.${location.host}`);
}

// Open `target` in a server at its own host: the login page of a Jupyter server takes the token from a form, not from
// the address, answers with a cookie for its host, and redirects.
function postToken(server, token, target) {
  const form = document.createElement("form");
  form.method = "post";
  form.action = `${server.href}login?next=${encodeURIComponent(target.pathname + target.search + target.hash)}`;
  for (const name of ["token", "password"]) {
    const field = document.createElement("input");
    Object.assign(field, { type: "hidden", name, value: token });
    form.append(field);
  }
  document.body.append(form);
  history.replaceState(null, "", "/"); // the way back must not lead to a page that launches again
  form.submit();
}

// Open `urlpath` in the server; `show` gets the URL that a person may also open.
export async function enter(url, token, urlpath, show) {
  const server = serverOf(url);
  const target = inside(server, urlpath);
  if (token && isBelowUs(server)) {
    show(target.href);
    postToken(server, token, target);
    return;
  }
  const href = (await entrance(url, token, urlpath)).href;
  show(href);
  location.replace(href);
}

// Return the URL to open: without the token if the server set a cookie, else with the token, as BinderHub does.
export async function entrance(url, token, urlpath) {
  const server = serverOf(url);
  const target = inside(server, urlpath);
  if (!token) return target;
  try {
    if (server.origin === location.origin && (await signIn(server, token))) return target;
  } catch {
    // not a Jupyter server, or a network error: the token in the URL still works
  }
  target.searchParams.set("token", token);
  return target;
}
