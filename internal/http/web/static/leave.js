// The form with which the owner of an account leaves.

import { byId, showPanel } from "./page.js";
import { say } from "./texts.js";
import { showProblems, clearProblems } from "./problems.js";
import { answerTo, showFailure } from "./failures.js";
import { onSubmit, refuse } from "./form.js";
import { exchangeTyped } from "./exchange.js";
import { sound } from "./keys.js";
import { attach, conceal } from "./password.js";
import { moment } from "./moment.js";

/** Removes what the page has for a person who is signed in. */
function signOut() {
  for (const part of document.querySelectorAll(".who, form[action^='/signout.ashx']")) part.remove();
}

async function submit(showBusy) {
  conceal();
  clearProblems();
  const password = byId("current").value;
  const problems = [];
  if (!password) problems.push({ field: "current", text: say("current_empty") });
  if (!byId("sure").checked) problems.push({ field: "sure", text: say("sure_missing") });
  if (problems.length) {
    showProblems(problems);
    return;
  }
  showBusy();
  const answer = await answerTo(
    exchangeTyped("/leave.ashx", { user: byId("user").value, password }, { method: "POST", body: new URLSearchParams() }));
  if (!answer) return;
  const { status, body, proven } = answer;
  if (status === 200 && body.ok === true && proven) {
    byId("left-until").textContent = moment(new Date(body.until));
    signOut();
    // Loaded again, the page says what has happened on the page for signing in.
    history.replaceState(null, "", byId("left").dataset.after);
    showPanel("left");
  } else if (status === 401 && proven) {
    showProblems([{ field: "current", text: say("current_wrong") }]);
  } else if (status === 400) {
    showProblems([{ text: say("invalid_request") }]);
  } else {
    showFailure(answer);
  }
}

if (!sound) {
  refuse();
} else {
  attach();
  onSubmit(byId("leave"), submit);
}
