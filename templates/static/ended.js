// Offer the ended session's launch link, if this browser remembers it.
import { recall } from "./history.js";

const link = recall(location.pathname, document.getElementById("ended").dataset.base);
if (link) {
  const button = document.getElementById("relaunch");
  button.href = link;
  button.hidden = false;
}
