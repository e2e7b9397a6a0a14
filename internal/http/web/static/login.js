// The page for signing in.

import { byId, announce } from "./page.js";
import { startSignIn, focusFirst } from "./signin.js";
import { offerPasskeys } from "./passkeylogin.js";

// Says why the person is here: they have signed out, or their session has ended. The address has the
// id of the text, which is shown without this script too. Until the page has loaded, the browser moves
// the focus to that text.
function sayWhy() {
  const text = location.hash && byId(location.hash.slice(1));
  if (!text || !text.matches(".said")) return;
  announce(text.textContent);
  addEventListener("load", () => setTimeout(() => {
    if (!document.activeElement.matches("input")) focusFirst();
  }, 0), { once: true });
}

if (startSignIn()) sayWhy();
offerPasskeys();
