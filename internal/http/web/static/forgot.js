// The form of somebody who has forgotten the password. What it says is the same for every name and
// address, known or not.

import { byId, showPanel } from "./page.js";
import { say, writeBreakable } from "./texts.js";
import { showProblems, clearProblems } from "./problems.js";
import { answerTo, showFailure } from "./failures.js";
import { onSubmit } from "./form.js";
import { send } from "./http.js";
import { remembered, keepTyped } from "./storage.js";

async function submit(showBusy) {
  clearProblems();
  const account = byId("account").value.trim();
  if (!account) {
    showProblems([{ field: "account", text: say("account_empty") }]);
    return;
  }
  showBusy();
  const answer = await answerTo(send("/forgot.ashx", { method: "POST", body: new URLSearchParams({ account }) }));
  if (!answer) return;
  if (answer.status === 200 && answer.body.ok === true) {
    writeBreakable(byId("sent-typed").querySelector("bdi"), account);
    showPanel("sent");
  } else if (answer.status === 400) showProblems([{ field: "account", text: say("account_refused") }]);
  else showFailure(answer);
}

byId("account").value ||= remembered().user;
keepTyped("account");
onSubmit(byId("forgot"), submit);
byId("account").focus({ preventScroll: true });
