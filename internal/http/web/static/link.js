// The token of the link that led to this page. It leaves the address bar and the history of the browser, so that
// nobody reads it there later. The tab keeps it until the link is used, so that the page can be loaded again.

import { byId } from "./page.js";

const kept = history.state ?? {};
// A page that is loaded again has the language of the message, or the one that the person chose, as before.
const address = `${location.pathname}?lang=${document.documentElement.lang}`;

/** The token of the link, or "". */
export const token = new URLSearchParams(location.search).get("token") ?? "";

/** What finish kept, or undefined. */
export const outcome = kept.outcome;

/** Keeps what the link has led to instead of its token, for a page that is loaded again. */
export function finish(result, fragment = "") {
  history.replaceState({ outcome: result }, "", address + fragment);
}

// The menu of languages loads the page again, with the token and without another entry in the history. The server
// writes no token into a page.
byId("languages")?.addEventListener("click", (event) => {
  const language = event.target.closest("a");
  if (!token || !language) return;
  event.preventDefault();
  location.replace(`${location.pathname}?lang=${language.lang}&token=${encodeURIComponent(token)}`);
});

if (token) history.replaceState({ token }, "", address);
if (!token && kept.token) location.replace(`${address}&token=${encodeURIComponent(kept.token)}`);
else if (!outcome) byId("start").classList.remove("late");
