// The account page, and the pages that set up a phone.

import "./again.js";
import "./copy.js";
