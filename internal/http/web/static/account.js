// The account page, and the pages that set up a phone. The buttons of copy.js come first: they move
// what is below them.

import "./copy.js";
import "./again.js";
import "./ago.js";

// The focus is on the next step when the page has loaded. again.js has removed that step from the address:
// loaded again, the page is as always.
const next = document.querySelector(".next #phone");
if (next) addEventListener("load", () => next.focus({ preventScroll: true }), { once: true });
