// A link that needs nothing more from the person. The token leaves the address bar and the history:
// it was used, or it never worked. The user name is kept in the tab's storage for the sign-in form,
// so that no address has it. The token is kept with it if it belongs to that account.

import { remember } from "./storage.js";

const token = new URLSearchParams(location.search).get("token");
history.replaceState(null, "", location.pathname);

const { user } = document.getElementById("activation").dataset;
if (user) remember(user, token);
