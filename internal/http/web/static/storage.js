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

/** Keeps when a message was sent to an account, which is now. */
export function rememberSent(user) {
  stored((storage) => storage.setItem("sent", JSON.stringify({ user, at: Date.now() })));
}

/** Returns when the last message was sent to an account, in milliseconds, or 0 if that is not known. */
export function sentAt(user) {
  return stored((storage) => {
    const sent = JSON.parse(storage.getItem("sent") ?? "{}");
    return sent.user === user ? sent.at : 0;
  }, 0);
}

/** Keeps that a new password was chosen for an account. */
export function rememberChosen(user) {
  stored((storage) => storage.setItem("chosen", user));
}

/** Returns the account that rememberChosen has kept last, or "". */
export const lastChosen = () => stored((storage) => storage.getItem("chosen") ?? "", "");

/** Reports whether a new password was chosen for an account, the last one that rememberChosen has kept. */
export const wasChosen = (user) => stored((storage) => storage.getItem("chosen") === user, false);

/** Keeps that the recovery codes of an account were removed. */
export function rememberLostCodes(user) {
  stored((storage) => storage.setItem("lost codes", user));
}

/** Reports whether rememberLostCodes has kept an account. */
export const lostCodes = (user) => stored((storage) => storage.getItem("lost codes") === user, false);

/** Removes the name, the token and the time of a message. */
export function forget() {
  stored((storage) => {
    storage.removeItem("user");
    storage.removeItem("link");
    storage.removeItem("sent");
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

/** Keeps the text of fields of a person who has to sign in again, for the next time that this page is loaded. */
export function saveTyped(user, ...ids) {
  const typed = Object.fromEntries(ids.map((id) => [id, byId(id).value]));
  stored((storage) => storage.setItem(`unsaved ${location.pathname}`, JSON.stringify({ user, typed })));
}

/** Puts what saveTyped kept into its fields, once, if the same person has signed in. */
export function restoreTyped(user) {
  const key = `unsaved ${location.pathname}`;
  stored((storage) => {
    const kept = JSON.parse(storage.getItem(key) ?? "{}");
    storage.removeItem(key);
    if (kept.user !== user) return;
    for (const [id, value] of Object.entries(kept.typed)) byId(id).value = value;
  });
}

/**
 * Keeps which details of the page are open, by their ids, when the page is loaded again. It returns a
 * function that also keeps how far the page is scrolled, for the next time that it is loaded.
 */
export function keepPlace() {
  const open = `open ${location.pathname}`;
  const scroll = `scroll ${location.pathname}`;
  const all = [...document.querySelectorAll("details[id]")];
  const ids = () => all.filter((details) => details.open).map(({ id }) => id).join(" ");
  stored((storage) => {
    const kept = storage.getItem(open)?.split(" ") ?? [];
    for (const details of all) details.open ||= kept.includes(details.id);
    const top = storage.getItem(scroll);
    storage.removeItem(scroll);
    if (top) scrollTo(0, Number(top));
  });
  for (const details of all) {
    details.addEventListener("toggle", () => stored((storage) => storage.setItem(open, ids())));
  }
  return () => stored((storage) => storage.setItem(scroll, String(scrollY)));
}
