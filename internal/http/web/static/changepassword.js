// The form that changes the password. It proves the current one, computes the keys from the new one,
// and sends the keys.

import { byId, showPanel } from "./page.js";
import { say, has } from "./texts.js";
import { showProblems, clearProblems } from "./problems.js";
import { answerTo, showFailure } from "./failures.js";
import { onSubmit, refuse } from "./form.js";
import { exchangeTyped } from "./exchange.js";
import { keys, sound } from "./keys.js";
import { attach, conceal } from "./password.js";
import { attachMeter, attachNote, passwordProblem } from "./newpassword.js";

const { realm, name, email, changed } = byId("change").dataset;
const user = byId("user").value;

/** Words that make this person's password weak. */
const personal = () => [user, ...name.split(/\s+/), ...email.split(/[@.]/), realm];

/** Returns the problems that the page can find without the server. */
function check(current, password) {
  const problems = [];
  if (!current) problems.push({ field: "current", text: say("current_empty") });
  const text = password && password === current ? say("password_same") : passwordProblem(password, user, personal());
  if (text) problems.push({ field: "password", text });
  return problems;
}

/** Returns the problem that a refusal of the server names by field and rule. */
function refusal(headers) {
  const [field, rule] = (headers.get("Dialtone-Rule") ?? "").split(".");
  if (!field.startsWith("ha1")) return { text: say("invalid_request") };
  const key = `password_${rule}`;
  return { field: "password", text: say(has(key) ? key : "refused") };
}

function showChanged() {
  addEventListener("popstate", () => location.reload());
  showPanel("changed");
}

async function submit(showBusy) {
  conceal();
  clearProblems();
  const current = byId("current").value;
  const password = byId("password").value;
  const problems = check(current, password);
  if (problems.length) {
    showProblems(problems);
    return;
  }
  showBusy();
  const body = new URLSearchParams(keys(user, realm, password));
  const answer = await answerTo(
    exchangeTyped("/password.ashx", { user, password: current }, { method: "POST", body }));
  if (!answer) return;
  const { status, headers, proven } = answer;
  if (status === 200 && answer.body.ok === true && proven && answer.body.signed_in) {
    byId("start").hidden = true;
    location.replace(changed);
    await new Promise(() => {}); // the form stays busy
  } else if (status === 200 && answer.body.ok === true && proven) {
    // Password managers take a hidden form and a new address as the signs that the form was accepted.
    byId("start").hidden = true;
    history.pushState({ changed: true }, "", "#changed");
    showChanged();
  } else if (status === 401 && proven) {
    showProblems([{ field: "current", text: say("current_wrong") }]);
  } else if (status === 400) {
    showProblems([refusal(headers)]);
  } else {
    showFailure(answer);
  }
}

if (!sound) {
  refuse();
} else if (location.hash === "#changed" && history.state?.changed) {
  showChanged();
} else {
  if (location.hash === "#changed") history.replaceState(null, "", location.pathname + location.search);
  attach();
  attachMeter(personal);
  attachNote();
  onSubmit(byId("change"), submit);
  byId("current").focus({ preventScroll: true });
}
