// Launch with BinderHub's own client and print each event as a line of JSON.
// Arguments: the folder of the packages, the binder's build endpoint, the spec; the token is in TOKEN.
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, endpoint, spec] = process.argv.slice(2);
// the client is made for browsers, and leaves the promise of a stream that it ends rejected, which they only log
globalThis.window = globalThis;
globalThis.document = Object.assign(new EventTarget(), { cookie: "" });
process.on("unhandledRejection", () => {});
const client = join(folder, "@jupyterhub", "binderhub-client", "lib", "client.js");
const { BinderRepository } = await import(pathToFileURL(client));

const options = { apiToken: process.env.TOKEN, buildOnly: process.env.BUILD_ONLY === "true" };
const repository = new BinderRepository(spec, new URL(endpoint), options);
for await (const event of repository.fetch()) {
  console.log(JSON.stringify(event));
  if (event.phase === "ready" || event.phase === "failed") break;
}
repository.close();
