// Offers the link that the ended session came from, where this browser knows it.
import { recall } from "./history.js";

const link = recall(location.pathname, document.getElementById("ended").dataset.base);
if (link) {
  const button = document.getElementById("relaunch");
  button.href = link;
  button.hidden = false;
}
