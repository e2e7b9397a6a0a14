// Signing in with a passkey: by the button, or by choosing one where the browser offers user names.

import { byId, announce } from "./page.js";
import { say, has } from "./texts.js";
import { showProblems, clearProblems } from "./problems.js";
import { answerTo, showFailure, showUnreachable } from "./failures.js";
import { send } from "./http.js";
import { supported, passkeyOptions, usePasskey, browserProblem } from "./webauthn.js";

// The options of the server are valid for five minutes. Those behind the field are replaced before.
const optionsAge = 4 * 60_000;

let waiting; // the AbortController of the request behind the field

/** Sends a response, and leaves the page if it is right. */
async function signIn(response) {
  const body = new URLSearchParams({ response });
  const answer = await answerTo(send("/passkey.ashx", { method: "POST", body }));
  if (!answer) return;
  const { status, headers, body: { ok } } = answer;
  const rule = headers.get("Dialtone-Rule");
  if (status === 200 && ok === true) {
    location.assign(byId("login").dataset.next);
    await new Promise((left) => { addEventListener("pagehide", left, { once: true }); });
  } else if (status !== 429 && rule && has(rule)) {
    showProblems([{ text: say(rule) }]);
  } else if (status === 400) {
    showProblems([{ text: say("passkey_failed") }]);
  } else {
    showFailure(answer);
  }
}

/** Offers passkeys where the browser offers user names, if it can. */
async function offerBehindField() {
  if (!await PublicKeyCredential.isConditionalMediationAvailable?.()) return;
  const control = new AbortController();
  waiting = control;
  const timer = setTimeout(() => {
    control.abort();
    offerBehindField();
  }, optionsAge);
  try {
    const { status, body } = await passkeyOptions();
    if (status !== 200 || control.signal.aborted) return;
    const response = await usePasskey(body.publicKey, { mediation: "conditional", signal: control.signal });
    clearProblems();
    announce(say("busy"));
    await signIn(response);
  } catch {
    // The person did something else, or the server did not answer. The button is still there.
  } finally {
    clearTimeout(timer);
  }
}

async function byButton() {
  clearProblems();
  waiting?.abort(); // a browser has one request at a time
  announce(say("busy"));
  let options;
  try {
    options = await passkeyOptions();
  } catch {
    showUnreachable();
    return;
  }
  if (options.status !== 200) {
    showFailure(options);
    return;
  }
  let response;
  try {
    response = await usePasskey(options.body.publicKey);
  } catch (error) {
    announce("");
    showProblems([{ text: say(browserProblem(error)) }]);
    return;
  }
  await signIn(response);
}

/** Shows the button, whose place is kept, and offers passkeys behind the field. */
export function offerPasskeys() {
  const button = byId("passkey");
  if (!supported || !button) return;
  button.classList.remove("unready");
  let running = false;
  button.addEventListener("click", async () => {
    if (running) return;
    running = true;
    button.setAttribute("aria-disabled", "true");
    try {
      await byButton();
    } finally {
      running = false;
      button.removeAttribute("aria-disabled");
      offerBehindField();
    }
  });
  offerBehindField();
}
