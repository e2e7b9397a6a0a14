// The sign-in form: two requests to the same address, the second with the answer to the first one's challenge.

import { say, send, userName, userProblem, limited, showProblems, clearProblems, onSubmit, keepTyped, refuse } from "./form.js";
import { digestChallenge, authorization } from "./digest.js";
import { sound } from "./keys.js";
import { attach, conceal } from "./password.js";

const byId = (id) => document.getElementById(id);
const uri = "/signin.ashx";
const asScript = { "X-Requested-With": "fetch" };

/** The server's last word on this name and password. A nonce that had grown old is replaced once, without a word. */
async function exchange(user, password) {
  let answer = await send(uri, { headers: asScript });
  for (let turn = 0; turn < 2 && answer.status === 401; turn++) {
    const params = digestChallenge(answer.headers.get("WWW-Authenticate") ?? "");
    if (!params || (turn > 0 && params.get("stale")?.toLowerCase() !== "true")) break;
    const proof = authorization(params, { user, password, method: "GET", uri });
    answer = await send(uri, { headers: { ...asScript, Authorization: proof } });
    answer.proven = true;
  }
  return answer;
}

function inactive() {
  byId("start").remove();
  byId("languages")?.remove(); // it would lead back to an empty form
  byId("inactive").hidden = false;
  const title = byId("inactive-title");
  document.title = document.title.replace(/^[^–]*/, `${title.textContent} `);
  scrollTo(0, 0);
  title.focus();
}

async function submit(busy) {
  conceal();
  clearProblems();
  const user = userName();
  const password = byId("password").value;
  const problems = [];
  const wrong = userProblem(user);
  if (wrong) problems.push({ field: "user", text: say(wrong) });
  if (!password) problems.push({ field: "password", text: say("password_empty") });
  if (problems.length) {
    showProblems(problems);
    return;
  }
  busy();
  let answer;
  try {
    answer = await exchange(user, password);
  } catch {
    showProblems([{ text: say("unreachable") }], { retry: true });
    return;
  }
  const { status, headers, body, proven } = answer;
  if (status === 200 && body.ok === true && proven) {
    try {
      sessionStorage.removeItem("user");
    } catch {
      // It was never there.
    }
    location.assign(byId("login").dataset.next);
    // The page stays busy until the next one is here. Going back to it must not bring the password back.
    await new Promise((done) => { addEventListener("pagehide", done, { once: true }); });
    byId("password").value = "";
  } else if (status === 401 && proven) {
    showProblems([{ text: say("wrong") }]);
  } else if (body.error === "not_activated") {
    inactive();
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
  try {
    if (!byId("user").value) byId("user").value = sessionStorage.getItem("user") ?? "";
  } catch {
    // No storage, no name.
  }
  keepTyped("user");
  onSubmit(byId("login"), submit);
} else {
  refuse();
}
