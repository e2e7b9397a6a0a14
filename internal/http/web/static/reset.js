// The form behind a reset link. It computes the keys of the new password for the chosen account, and sends
// the keys with the token of the link.

import { byId, showPanel } from "./page.js";
import { say, has, writeBreakable } from "./texts.js";
import { showProblems, clearProblems } from "./problems.js";
import { answerTo, showFailure } from "./failures.js";
import { onSubmit, refuse } from "./form.js";
import { send } from "./http.js";
import { forget, lastChosen, lostCodes, remember, rememberChosen } from "./storage.js";
import { keys, sound } from "./keys.js";
import { attach, conceal } from "./password.js";
import { attachMeter, attachNote, passwordProblem } from "./newpassword.js";
import { token, outcome, finish } from "./link.js";

const form = byId("reset"); // there is none if the link does not work
const user = () => byId("user").value;
const personal = () => [user(), form.dataset.realm];

const choices = [...document.querySelectorAll("#reset input[type=radio]")];

const show = (text) => showProblems([{ field: "password", text }]);

/** Returns the problems that the page can find without the server. */
function check(password) {
  const problems = [];
  if (!user()) problems.push({ field: "account", text: say("account_empty") });
  const text = passwordProblem(password, user(), personal());
  if (text) problems.push({ field: "password", text });
  return problems;
}

function showDone({ user, kept, noCodes }) {
  writeBreakable(byId("done-title").querySelector("bdi"), user);
  byId("kept").hidden = !kept;
  byId("no-codes").hidden = !noCodes;
  showPanel("done");
}

async function submit(showBusy) {
  conceal();
  clearProblems();
  const password = byId("password").value;
  const problems = check(password);
  if (problems.length) {
    showProblems(problems);
    return;
  }
  showBusy();
  const name = user();
  const body = new URLSearchParams({ token, user: name, ...keys(name, form.dataset.realm, password) });
  const answer = await answerTo(send("/reset.ashx", { method: "POST", body }));
  if (!answer) return;
  if (answer.status === 200 && answer.body.ok === true) {
    forget();
    remember(name);
    rememberChosen(name);
    // Password managers take a hidden form and a new address as the signs that the form was accepted.
    byId("start").hidden = true;
    const kept = form.dataset.kept.split(" ").includes(name);
    const result = { user: name, kept, noCodes: lostCodes(name) };
    finish(result, "#done");
    showDone(result);
  } else if (answer.status === 404) {
    showPanel("lost");
  } else if (answer.status === 400) {
    const rule = (answer.headers.get("Dialtone-Rule") ?? "").split(".").at(-1);
    const key = `password_${rule}`;
    show(say(has(key) ? key : "password_common"));
  } else {
    showFailure(answer);
  }
}

if (outcome) {
  showDone(outcome);
} else if (form && sound) {
  attach();
  attachMeter(personal);
  attachNote();
  for (const choice of choices) {
    choice.addEventListener("change", () => { byId("user").value = choice.value; });
    if (choice.checked) byId("user").value = choice.value; // the browser may have kept a choice
  }
  onSubmit(form, submit);
  (choices[0] ?? byId("password")).focus({ preventScroll: true });
} else if (form) {
  refuse();
} else if (!token && !history.state?.token && lastChosen()) {
  // Somebody who has saved a password came back to an address without the link.
  showDone({ user: lastChosen(), noCodes: lostCodes(lastChosen()) });
}
