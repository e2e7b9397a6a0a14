// Signing in again before a change. The form of the change is sent again afterwards.

import { byId } from "./page.js";
import { startSignIn } from "./signin.js";
import { offerPasskeys } from "./passkeylogin.js";

const form = byId("again");
if (form) addEventListener("hashchange", () => form.submit(), { once: true });

startSignIn();
offerPasskeys();
