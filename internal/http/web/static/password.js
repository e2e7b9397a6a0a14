// The password field: the button that shows it, the Caps Lock warning, and the strength meter of a
// new password.

import { byId, announce } from "./page.js";
import { say } from "./texts.js";

const input = byId("password");

function setType(type) {
  input.type = type;
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

/** The number of code points, which is what people count as characters. */
export const count = (text) => [...text].length;

/** The least number of characters of a new password. */
export const minimum = 12;

// Some of the commonest words in passwords, for the meter. The server refuses by a much longer
// list.
const common = [
  "password", "passwort", "passwd", "letmein", "welcome", "iloveyou", "football", "baseball",
  "princess", "sunshine", "superman", "dragon", "monkey", "shadow", "master", "secret", "admin",
  "login", "hello", "phone", "summer", "winter", "spring", "autumn", "qwertyuiop", "asdfghjkl",
  "zxcvbnm", "qwertz", "qwerty", "azerty", "1q2w3e4r", "changeme",
];

/**
 * Estimates the bits of a password: fewer for words, years, sequences, repeats, and the personal
 * words.
 */
export function bits(password, personal = []) {
  let text = password.slice(0, 128).toLowerCase();
  const repeated = /^(.+?)\1+$/u.exec(text);
  let sum = 0;
  if (repeated) {
    sum += Math.log2(text.length / repeated[1].length);
    text = repeated[1];
  }
  for (const word of [...personal.map((known) => known.toLowerCase()), ...common].filter((known) => known.length > 2)) {
    if (!text.includes(word)) continue;
    sum += 6;
    text = text.replaceAll(word, "\0");
  }
  text = text.replace(/(?:19|20)\d\d/g, () => {
    sum += 6;
    return "\0";
  });
  const pool = [[/[a-z]/i, 26], [/[0-9]/, 10], [/[ -/:-@[-`{-~]/, 33], [/[^\0-\x7f]/, 100]]
    .reduce((size, [kind, members]) => size + (kind.test(text) ? members : 0), /[A-Z]/.test(password) ? 10 : 0);
  const each = Math.log2(pool || 1);
  let before = 0;
  let letters = 0;
  for (const character of text) {
    const code = character.codePointAt(0);
    letters = /\p{L}/u.test(character) ? letters + 1 : 0;
    if (code === 0) before = 0;
    else if (before && Math.abs(code - before) <= 1) sum += 1;
    else sum += letters > 1 ? Math.min(each, 3) : each;
    before = code;
  }
  return sum;
}

/**
 * Updates the meter and its text as the password is typed. personal returns words that make this
 * person's password weak.
 */
export function attachMeter(personal) {
  let timer;
  input.addEventListener("input", () => {
    const length = count(input.value);
    const guess = bits(input.value, personal());
    const level = length < minimum ? 0 : guess < 30 ? 1 : guess < 48 ? 2 : guess < 70 ? 3 : 4;
    const text = say(`strength_${level}`, { count: minimum - length });
    byId("strength").hidden = length === 0;
    byId("meter").value = level;
    byId("meter").textContent = text;
    byId("strength-word").textContent = text;
    clearTimeout(timer);
    timer = setTimeout(() => announce(text), 700);
  });
}
