// The password field: the button that shows it, and the Caps Lock warning.

import { byId, announce } from "./page.js";
import { say } from "./texts.js";

const input = byId("password");

function setType(type) {
  input.type = type;
  byId("reveal").classList.toggle("on", type === "text");
  byId("reveal-word").textContent = say(type === "text" ? "conceal" : "reveal");
}

/**
 * Hides the password. A form calls it before it is sent, so that browsers offer to save the
 * password.
 */
export function conceal() {
  setType("password");
}

/** Shows the button beside the field and watches Caps Lock. */
export function attach() {
  const reveal = byId("reveal");
  reveal.hidden = false;
  reveal.addEventListener("click", () => {
    setType(input.type === "password" ? "text" : "password");
    announce(say(input.type === "text" ? "revealed" : "concealed"));
  });
  const caps = byId("caps");
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
