// The page of an account that is active, with the form for signing in. The token of the link leaves the
// address bar and the history, and the page gets an address that says the same when it is loaded again.
// The user name is kept in the tab's storage for that, so that no address has it, and the token with it. Without
// it, nobody has opened a link in this tab, and the page is that for signing in.

import { byId } from "./page.js";
import { remember, remembered } from "./storage.js";
import { startSignIn } from "./signin.js";

const { user, after, login } = byId("activation").dataset;
if (!user && byId("login") && !remembered().user) location.replace(login);
if (user) {
  remember(user, new URLSearchParams(location.search).get("token"));
  history.replaceState(null, "", after);
}
if (byId("login")) startSignIn(); // somebody who is signed in has none
