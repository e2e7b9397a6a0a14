// Loads a page with a link for a phone again before the link expires.

import { byId } from "./page.js";

const { again, seconds } = byId("again").dataset;

// The answer to a form would be requested again with the form, after a question to the person.
if (location.pathname + location.search !== again) history.replaceState(null, "", again);

if (Number(seconds) > 0) setTimeout(() => location.replace(again), Number(seconds) * 1000);
