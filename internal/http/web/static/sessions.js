// The list of sessions.

import "./ago.js";
