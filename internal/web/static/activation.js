// The token has done its work, or is worth nothing: it leaves the address bar and with it the history. The name goes to
// the sign-in form by way of this tab's storage, so that no address ever holds it.

history.replaceState(null, "", location.pathname);

const { user } = document.getElementById("activation").dataset;
if (user) {
  try {
    sessionStorage.setItem("user", user);
  } catch {
    // Without storage the person types the name.
  }
}
