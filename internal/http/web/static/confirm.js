// The form behind a link that wants the password too. The token stays in the address until it has done its work: a page that is
// loaded again must still know it.

import { say, limited, showProblems, clearProblems, onSubmit, refuse } from "./form.js";
import { exchange } from "./exchange.js";
import { leave } from "./link.js";
import { sound } from "./keys.js";
import { attach, conceal } from "./password.js";

const byId = (id) => document.getElementById(id);

function done(user) {
  history.replaceState(null, "", location.pathname);
  leave(user);
  byId("start").remove();
  byId("done").hidden = false;
  const title = byId("done-title");
  document.title = document.title.replace(/^[^–]*/, `${title.textContent} `);
  scrollTo(0, 0);
  title.focus();
}

async function submit(busy) {
  conceal();
  clearProblems();
  const user = byId("user").value;
  const password = byId("password").value;
  if (!password) {
    showProblems([{ field: "password", text: say("password_empty") }]);
    return;
  }
  busy();
  const body = new URLSearchParams({ token: new URLSearchParams(location.search).get("token") ?? "" });
  let answer;
  try {
    answer = await exchange("/activate.ashx", { user, password }, { method: "POST", body });
  } catch {
    showProblems([{ text: say("unreachable") }], { retry: true });
    return;
  }
  const { status, headers, proven } = answer;
  if (status === 200 && answer.body.ok === true && proven) {
    done(user);
  } else if (status === 401 && proven) {
    showProblems([{ field: "password", text: say("password_wrong") }]);
  } else if (status === 400) {
    showProblems([{ text: say("link_lost") }]);
  } else if (status === 429) {
    showProblems([{ text: limited(headers) }]);
  } else if (status === 503) {
    showProblems([{ text: say("overloaded") }], { retry: true });
  } else {
    showProblems([{ text: say("server_error") }], { retry: true });
  }
}

if (sound) {
  attach();
  onSubmit(byId("confirm"), submit);
} else {
  refuse();
}
