// The page of passkeys. Adding and removing one needs the password, or to remove one, any passkey.

import { byId, announce } from "./page.js";
import "./notice.js";
import { say, has } from "./texts.js";
import { showProblems, clearProblems } from "./problems.js";
import { answerTo, showFailure } from "./failures.js";
import { onSubmit, refuse } from "./form.js";
import { send } from "./http.js";
import { exchangeTyped } from "./exchange.js";
import { sound } from "./keys.js";
import { attach, conceal } from "./password.js";
import { supported, passkeyOptions, createPasskey, usePasskey, browserProblem } from "./webauthn.js";

const form = byId("change");
const offered = supported && "offered" in form.dataset;
let removing; // the button of the passkey that is to be removed

/** Loads the page again, and has it say what has happened. */
async function reload(said) {
  history.replaceState(null, "", `#${said}`);
  location.reload();
  await new Promise(() => {}); // the form stays busy
}

/** Shows an answer that is not what was hoped for. */
function showRefusal(answer) {
  const rule = answer.headers.get("Dialtone-Rule") ?? "";
  if (rule.startsWith("name.")) showProblems([{ field: "name", text: say("name_refused") }]);
  else if (answer.status === 401 && answer.proven) showProblems([{ field: "current", text: say("current_wrong") }]);
  else if (answer.status !== 429 && has(rule)) showProblems([{ text: say(rule) }]);
  else if (rule === "id.gone") reload("removed");
  else if (answer.status === 400) showProblems([{ text: say("passkey_failed") }]);
  else showFailure(answer);
}

/** Calls the browser, and shows the problem if it fails. */
async function asked(ceremony) {
  try {
    return await ceremony;
  } catch (error) {
    showProblems([{ text: say(browserProblem(error)) }]);
    return undefined;
  }
}

const prove = (path, password, fields = {}) => answerTo(exchangeTyped(
  path, { user: byId("user").value, password }, { method: "POST", body: new URLSearchParams(fields) }));

const post = (fields) =>
  answerTo(send("/passkeys.ashx", { method: "POST", body: new URLSearchParams(fields) }));

async function finish(answer, said) {
  if (!answer) return;
  if (answer.status === 200 && answer.body.ok === true) await reload(said);
  else showRefusal(answer);
}

async function add(password) {
  const options = await prove("/passkey-new.ashx", password);
  if (!options) return;
  if (options.status !== 200) {
    showRefusal(options);
    return;
  }
  const response = await asked(createPasskey(options.body.publicKey));
  if (response) await finish(await post({ do: "add", name: byId("name").value, response }), "added");
}

async function submit(showBusy) {
  conceal();
  clearProblems();
  const password = byId("current").value;
  const problems = [];
  if (!password) problems.push({ field: "current", text: say("current_empty") });
  if (!removing && !byId("name").value.trim()) problems.push({ field: "name", text: say("name_empty") });
  if (problems.length) {
    showProblems(problems);
    return;
  }
  showBusy();
  if (!removing) await add(password);
  else await finish(await prove("/passkey-remove.ashx", password, { id: removing.dataset.id }), "removed");
}

/** Removes a passkey by the response of any passkey of the account. */
async function removeByPasskey() {
  clearProblems();
  const options = await answerTo(passkeyOptions());
  if (!options) return;
  if (options.status !== 200) {
    showRefusal(options);
    return;
  }
  const response = await asked(usePasskey(options.body.publicKey));
  if (response) await finish(await post({ do: "remove", id: removing.dataset.id, response }), "removed");
}

/** Makes the form one that removes the passkey of a button, or adds one if there is no button. */
function setTask(button) {
  clearProblems();
  removing = button;
  const title = byId("change-title");
  title.textContent = button ? say("remove_title", { name: button.dataset.name }) : say("add_title");
  byId("submit").textContent = say(button ? "remove_submit" : "add_submit");
  byId("name-field").hidden = Boolean(button);
  byId("by-passkey").hidden = !supported;
  byId("instead").hidden = !button;
  form.hidden = !button && !offered;
  if (!button) return;
  announce(title.textContent);
  byId("current").focus();
}

if (!supported) byId("unsupported").hidden = false;
if (sound) {
  attach();
  onSubmit(form, submit);
  for (const button of document.querySelectorAll("[data-id]")) {
    button.disabled = false;
    button.addEventListener("click", () => setTask(button));
  }
  byId("cancel").addEventListener("click", () => {
    const button = removing;
    setTask();
    button.focus();
  });
  byId("by-passkey").addEventListener("click", removeByPasskey);
  form.hidden = !offered;
} else {
  refuse();
}
