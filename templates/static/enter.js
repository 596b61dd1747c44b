// Enters a server that is ready, without leaving its token in the address bar or the history.

// The address of `urlpath` in the server, or the server itself where the path would leave it.
export function inside(server, urlpath) {
  try {
    const target = new URL(server.href + urlpath.replace(/^\//, ""));
    const stays = target.origin === server.origin && target.pathname.startsWith(server.pathname);
    return stays ? target : server;
  } catch {
    return server;
  }
}

// The server's address from an event: http or https only, ending in a slash, without query and fragment.
export function serverOf(url) {
  const server = new URL(url, location.href);
  if (!/^https?:$/.test(server.protocol)) throw new Error("not a web address");
  return new URL(server.pathname.replace(/\/*$/, "/"), server.origin);
}

// A Jupyter server that is shown its token answers with a cookie, and the cookie alone lets us in from then on.
async function signIn(server, token) {
  const status = new URL("api/status", server);
  const options = { credentials: "same-origin", cache: "no-store", redirect: "error" };
  const first = await fetch(status, { ...options, headers: { Authorization: `token ${token}` } });
  if (!first.ok) return false;
  return (await fetch(status, options)).ok;
}

// Where to go: with a cookie the plain address, else the address with the token, as BinderHub does it.
export async function entrance(url, token, urlpath) {
  const server = serverOf(url);
  const target = inside(server, urlpath);
  if (!token) return target;
  try {
    if (server.origin === location.origin && (await signIn(server, token))) return target;
  } catch {
    // another server than Jupyter's, or the network: the token in the address still works
  }
  target.searchParams.set("token", token);
  return target;
}
