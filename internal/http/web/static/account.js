// The account page, and the pages that set up a phone. copy.js and ago.js come first: they may move
// what is below, and again.js scrolls to where the page was.

import "./copy.js";
import "./ago.js";
import "./again.js";

// The focus is on the next step when the page has loaded. again.js has removed that step from the address:
// loaded again, the page is as always.
const next = document.querySelector(".next #phone");
if (next) addEventListener("load", () => next.focus({ preventScroll: true }), { once: true });
