// The session storage of this tab. Every function does nothing where there is no storage: people
// then type the name again, and the account stays unconfirmed.

import { byId } from "./page.js";

function stored(work, otherwise) {
  try {
    return work(sessionStorage);
  } catch {
    return otherwise;
  }
}

/**
 * Keeps the user name for the sign-in form and, if there is one, the token of an activation link. A
 * sign-in in this tab sends the token too, which shows that the same person has the link and the
 * password.
 */
export function remember(user, token) {
  stored((storage) => {
    storage.setItem("user", user);
    if (token) storage.setItem("link", token);
  });
}

/** Returns the user name and the token, each empty if there is none. */
export function remembered() {
  return stored(
    (storage) => ({ user: storage.getItem("user") ?? "", token: storage.getItem("link") ?? "" }),
    { user: "", token: "" },
  );
}

/** Removes the user name and the token. */
export function forget() {
  stored((storage) => {
    storage.removeItem("user");
    storage.removeItem("link");
  });
}

/**
 * Keeps the text of these fields when the page changes its language, which loads it again. The text
 * is read back once.
 */
export function keepTyped(...ids) {
  const key = `typed ${location.pathname}`;
  stored((storage) => {
    const typed = JSON.parse(storage.getItem(key) ?? "{}");
    storage.removeItem(key);
    for (const id of ids) byId(id).value ||= typed[id] ?? "";
  });
  byId("languages")?.addEventListener("click", (event) => {
    if (!event.target.closest("a")) return;
    const typed = Object.fromEntries(ids.map((id) => [id, byId(id).value]));
    stored((storage) => storage.setItem(key, JSON.stringify(typed)));
  });
}
