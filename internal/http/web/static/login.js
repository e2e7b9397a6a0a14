// The page for signing in.

import { announce } from "./page.js";
import { notice } from "./notice.js";
import { startSignIn, focusFirst } from "./signin.js";
import { offerPasskeys } from "./passkeylogin.js";

// Says why the person is here: they have signed out or left, or their session has ended. Until the page has
// loaded, the browser moves the focus to that text.
function sayWhy() {
  if (!notice) return;
  announce(notice.textContent);
  addEventListener("load", () => setTimeout(() => {
    if (!document.activeElement.matches("input")) focusFirst();
  }, 0), { once: true });
}

if (startSignIn()) sayWhy();
offerPasskeys();
