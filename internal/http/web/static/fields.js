// The rules of the fields that several forms have.

import { byId } from "./page.js";
import { write } from "./texts.js";

/**
 * Returns the user name. People also enter their phone address, so sip: and the domain of this
 * platform are removed, as is the space that phone keyboards add. Letters are never changed.
 */
export function userName() {
  const input = byId("user");
  let name = input.value.trim().replace(/^sips?:/i, "");
  const { realm, host } = input.form.dataset;
  for (const domain of [realm, host]) {
    if (name.toLowerCase().endsWith(`@${domain.toLowerCase()}`)) name = name.slice(0, -domain.length - 1);
  }
  if (input.value !== name) input.value = name;
  return name;
}

/** The key of the text that says what is wrong with a user name, or undefined. */
export function userProblem(user) {
  if (!user) return "user_empty";
  if (/.@./.test(user)) return "user_email";
  if (/^[A-Za-z0-9_.-]+$/.test(user) && /[A-Z]/.test(user)) return "user_upper";
  return /^[a-z0-9_.-]+$/.test(user) ? undefined : "user_shape";
}

/** Offers buttons that enter one of these user names, or removes them if there are none. */
export function offerNames(names) {
  const box = byId("user-offers");
  box.replaceChildren(...names.map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain";
    const words = document.createElement("span");
    write(words, "use", { user: name });
    button.append(words);
    button.addEventListener("click", () => {
      const input = byId("user");
      input.value = name;
      input.dispatchEvent(new Event("input", { bubbles: true }));
      box.hidden = true;
      input.focus();
    });
    return button;
  }));
  box.hidden = names.length === 0;
}

/** Whether this has the shape of an e-mail address. The server checks the rest. */
export const isEmail = (text) => /^[^\s@]+@[^\s@.]+(\.[^\s@.]+)*$/.test(text);
