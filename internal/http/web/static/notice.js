// The notice that the address names: what has just happened. It is shown without this script too. Loaded
// again, the page does not say it any more.

import { byId } from "./page.js";

const named = location.hash && byId(location.hash.slice(1));

/** The element of the notice, or undefined. */
export const notice = named?.matches?.(".said") ? named : undefined;

// The focus is on the notice, which screen readers read then, unless the person has begun to do something. Until the
// page has loaded, the browser moves the focus.
if (notice) {
  notice.tabIndex = -1;
  addEventListener("load", () => setTimeout(() => {
    if (document.activeElement === document.body) notice.focus({ preventScroll: true });
    history.replaceState(history.state, "", location.pathname + location.search);
  }, 0), { once: true });
}
