// A link that needs nothing more from the person. If the account is active, the token leaves the address
// bar and the history, and the page gets an address that says the same when it is loaded again. The user
// name is kept in the tab's storage for the sign-in form, so that no address has it, and the token with
// it. A link that does not work keeps its address: loaded again, it is explained again.

import { remember } from "./storage.js";

const { user, after } = document.getElementById("activation").dataset;
if (user) {
  remember(user, new URLSearchParams(location.search).get("token"));
  history.replaceState(null, "", after);
}
