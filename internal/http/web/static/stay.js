// The page for an owner who stays after all. Only the button uses the link up.

import { byId, showPanel } from "./page.js";
import { clearProblems } from "./problems.js";
import { answerTo, showFailure } from "./failures.js";
import { onSubmit } from "./form.js";
import { send } from "./http.js";
import { token, outcome, finish } from "./link.js";

async function submit(showBusy) {
  clearProblems();
  showBusy();
  const answer = await answerTo(send("/stay.ashx", { method: "POST", body: new URLSearchParams({ token }) }));
  if (!answer) return;
  const { status, body } = answer;
  if (status === 200 && body.ok === true) {
    finish({});
    showPanel("done");
  } else if (status === 404 || status === 400) {
    showPanel("lost");
  } else {
    showFailure(answer);
  }
}

const form = byId("stay"); // there is none if the link does not work
if (outcome) showPanel("done");
else if (form) onSubmit(form, submit);
