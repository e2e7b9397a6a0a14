// The page that confirms another e-mail address. Only the button uses the link up.

import { byId, showPanel } from "./page.js";
import { clearProblems } from "./problems.js";
import { answerTo, showFailure } from "./failures.js";
import { onSubmit } from "./form.js";
import { send } from "./http.js";
import { writeBreakable } from "./texts.js";
import { token, outcome, finish } from "./link.js";

const form = byId("confirm"); // there is none if the link does not work

function showDone({ user, email }) {
  writeBreakable(byId("done").querySelector("bdi.host"), user);
  writeBreakable(byId("done").querySelector("bdi.address"), email);
  showPanel("done");
}

async function submit(showBusy) {
  clearProblems();
  showBusy();
  const answer = await answerTo(
    send("/confirm-email.ashx", { method: "POST", body: new URLSearchParams({ token }) }));
  if (!answer) return;
  const { status, body } = answer;
  if (status === 200 && body.ok === true) {
    const { user, email } = form.dataset;
    finish({ user, email });
    showDone({ user, email });
  } else if (status === 404 || status === 400) {
    showPanel("lost");
  } else {
    showFailure(answer);
  }
}

if (outcome) showDone(outcome);
else if (form) onSubmit(form, submit);
