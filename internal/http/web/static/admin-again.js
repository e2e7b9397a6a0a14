// Signing in again before a change. The form of the change is sent again afterwards.

import { byId } from "./page.js";
import { startSignIn } from "./signin.js";
import { offerPasskeys } from "./passkeylogin.js";

// The answer to a form would be requested again with the form, after a question to the person.
const form = byId("again");
if (form) history.replaceState(null, "", form.dataset.address);
if (form) addEventListener("hashchange", () => form.submit(), { once: true });

startSignIn();
offerPasskeys();
