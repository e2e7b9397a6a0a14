// The token of the link that led to this page. It leaves the address bar and the history, so that nobody
// reads it there later.

/** The token of the link, or "". */
export const token = new URLSearchParams(location.search).get("token") ?? "";

if (token) history.replaceState(null, "", location.pathname);
