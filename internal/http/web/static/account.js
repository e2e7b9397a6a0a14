// The account page, and the pages that set up a phone. The buttons of copy.js come first: they move
// what is below them.

import "./copy.js";
import "./again.js";
