// The password fields: the button that shows each, and the Caps Lock warning.

import { announce } from "./page.js";
import { say } from "./texts.js";

const fields = [...document.querySelectorAll(".inside")].map((box) => ({
  input: box.querySelector("input"),
  reveal: box.querySelector(".reveal"),
  caps: box.nextElementSibling,
}));

function setType({ input, reveal }, type) {
  input.type = type;
  reveal.classList.toggle("on", type === "text");
  const word = reveal.querySelector(".word");
  word.textContent = say(type === "text" ? "conceal" : "reveal", word.dataset);
}

/**
 * Hides the passwords. A form calls it before it is sent, so that browsers offer to save the
 * password.
 */
export function conceal() {
  for (const field of fields) setType(field, "password");
}

/** Shows the button beside each field and watches Caps Lock. */
export function attach() {
  for (const field of fields) attachField(field);
}

function attachField(field) {
  const { input, reveal, caps } = field;
  reveal.hidden = false;
  reveal.addEventListener("click", () => {
    setType(field, input.type === "password" ? "text" : "password");
    announce(say(input.type === "text" ? "revealed" : "concealed"));
  });
  const checkCaps = (event) => {
    if (!event.getModifierState) return;
    const on = event.getModifierState("CapsLock");
    if (on && caps.hidden) announce(caps.textContent);
    caps.hidden = !on;
  };
  input.addEventListener("keydown", checkCaps);
  input.addEventListener("keyup", checkCaps);
  input.addEventListener("blur", () => { caps.hidden = true; });
}
