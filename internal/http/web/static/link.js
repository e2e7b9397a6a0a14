// What a link leaves for the sign-in form, in this tab's storage and nowhere else: the account's name, and the token. Whoever
// signs in in this tab hands the token over, and so shows that link and password are in the same hands.

/** Leaves the name and, if there is one, the token. */
export function leave(user, token) {
  try {
    sessionStorage.setItem("user", user);
    if (token) sessionStorage.setItem("link", token);
  } catch {
    // Without storage the person types the name, and the account stays unconfirmed.
  }
}

/** What was left: the name and the token, each empty where there is none. */
export function left() {
  try {
    return { user: sessionStorage.getItem("user") ?? "", token: sessionStorage.getItem("link") ?? "" };
  } catch {
    return { user: "", token: "" };
  }
}

/** Forgets all of it. */
export function forget() {
  try {
    sessionStorage.removeItem("user");
    sessionStorage.removeItem("link");
  } catch {
    // It was never there.
  }
}
