// The account page, and the pages that set up a phone. The buttons of copy.js come first: they move
// what is below them.

import "./copy.js";
import "./again.js";
import "./ago.js";

// The address says with #phone that the phone is the next step. The browser has moved the focus there when
// the page has loaded. Loaded again, the page is as always.
addEventListener("load", () => setTimeout(() => {
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
}, 0), { once: true });
