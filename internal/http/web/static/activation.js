// The token has done its work, or is worth nothing: it leaves the address bar and with it the history. The name goes to
// the sign-in form by way of this tab's storage, so that no address ever holds it, and so does the token of an account's own.

import { leave } from "./link.js";

const token = new URLSearchParams(location.search).get("token");
history.replaceState(null, "", location.pathname);

const { user } = document.getElementById("activation").dataset;
if (user) leave(user, token);
