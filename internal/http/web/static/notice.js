// The notice that the address names: what has just happened. It is shown without this script too. Loaded
// again, the page does not say it any more.

import { byId } from "./page.js";

const named = location.hash && byId(location.hash.slice(1));

/** The element of the notice, or undefined. */
export const notice = named?.matches?.(".said") ? named : undefined;

// Until the page has loaded, the browser moves the focus to the notice.
if (notice) {
  addEventListener("load", () => setTimeout(() => {
    history.replaceState(history.state, "", location.pathname + location.search);
  }, 0), { once: true });
}
