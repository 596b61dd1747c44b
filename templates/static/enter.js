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
