// The password field: show and hide, a hint at Caps Lock, and how strong a new password is.

import { say, announce } from "./form.js";

const input = document.getElementById("password");
const reveal = document.getElementById("reveal");

function setType(type) {
  input.type = type;
  document.getElementById("reveal-word").textContent = say(type === "text" ? "conceal" : "reveal");
}

/** Hides the password again. A form calls it before it sends, so that browsers offer to save the field as a password. */
export function conceal() {
  setType("password");
}

/** Brings the field's helpers to life. */
export function attach() {
  reveal.hidden = false;
  reveal.addEventListener("click", () => {
    setType(input.type === "password" ? "text" : "password");
    announce(say(input.type === "text" ? "revealed" : "concealed"));
  });
  const caps = document.getElementById("caps");
  const look = (event) => {
    if (!event.getModifierState) return;
    const on = event.getModifierState("CapsLock");
    if (on && caps.hidden) announce(caps.textContent);
    caps.hidden = !on;
  };
  input.addEventListener("keydown", look);
  input.addEventListener("keyup", look);
  input.addEventListener("blur", () => { caps.hidden = true; });
}

/** The number of characters, as people count them: code points. */
export const count = (text) => [...text].length;

export const minimum = 12;

// The words that people reach for first. The server knows many more; this list only keeps the meter honest.
const common = ["password", "passwort", "passwd", "letmein", "welcome", "iloveyou", "football", "baseball", "princess",
  "sunshine", "superman", "dragon", "monkey", "shadow", "master", "secret", "admin", "login", "hello", "phone", "summer",
  "winter", "spring", "autumn", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertz", "qwerty", "azerty", "1q2w3e4r", "changeme"];

/** A guess at the bits of a password: lower for words, years, runs, repeats, and for what is known about the person. */
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

/** Keeps the meter and its words at the present state of the field. personal gives words that make a password weak. */
export function attachMeter(personal) {
  let timer;
  input.addEventListener("input", () => {
    const length = count(input.value);
    const guess = bits(input.value, personal());
    const level = length < minimum ? 0 : guess < 30 ? 1 : guess < 48 ? 2 : guess < 70 ? 3 : 4;
    const text = say(`strength_${level}`, { count: minimum - length });
    document.getElementById("strength").hidden = length === 0;
    document.getElementById("meter").value = level;
    document.getElementById("meter").textContent = text;
    document.getElementById("strength-word").textContent = text;
    clearTimeout(timer);
    timer = setTimeout(() => announce(text), 700);
  });
}
