// The list of sessions.

import "./ago.js";
import "./notice.js";
