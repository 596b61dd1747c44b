// Open a session from the page of one's own sessions.
import { enter } from "./enter.js";

const { url, token, urlpath } = document.getElementById("open").dataset;
enter(url, token, urlpath, () => {});
