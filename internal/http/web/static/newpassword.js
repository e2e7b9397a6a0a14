// The field of a new password: its rules, the strength meter, and the note on characters that phones
// compute differently.

import { byId, announce } from "./page.js";
import { say } from "./texts.js";

const input = byId("password");

/** The number of code points, which is what people count as characters. */
export const count = (text) => [...text].length;

/** The least number of characters of a new password. */
const minimum = 12;

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

/** The strength of a password, from 0 (too short) and 1 (easy to guess) to 4. */
export function strength(password, personal) {
  if (count(password) < minimum) return 0;
  const guess = bits(password, personal);
  return guess < 30 ? 1 : guess < 48 ? 2 : guess < 70 ? 3 : 4;
}

/**
 * The text that says what is wrong with a new password for this user, or undefined. personal are words
 * that make this person's password weak.
 */
export function passwordProblem(password, user, personal) {
  const length = count(password);
  if (length === 0) return say("password_empty");
  if (length < minimum) return say("password_short", { count: length });
  if (user.length > 2 && password.toLowerCase().includes(user.toLowerCase())) return say("password_user");
  return strength(password, personal) < 2 ? say("password_weak") : undefined;
}

/**
 * Updates the meter and its text as the password is typed. personal returns words that make this
 * person's password weak.
 */
export function attachMeter(personal) {
  let timer;
  input.addEventListener("input", () => {
    const length = count(input.value);
    const level = strength(input.value, personal());
    const text = say(`strength_${level}`, { count: minimum - length });
    byId("strength").hidden = length === 0;
    byId("meter").value = level;
    byId("meter").textContent = text;
    byId("strength-word").textContent = text;
    clearTimeout(timer);
    timer = setTimeout(() => announce(text), 700);
  });
}

/**
 * Shows a note where the password has characters beyond ASCII. Phones differ in how they encode
 * these. Where the password is not in the composed form, which most keyboards type, a button puts it
 * into that form: the page never does so by itself.
 */
export function attachNote() {
  const [note, compose] = ["beyond", "compose"].map(byId);
  input.addEventListener("input", () => {
    note.hidden = /^[\x20-\x7e]*$/.test(input.value);
    compose.hidden = input.value === input.value.normalize("NFC");
  });
  compose.addEventListener("click", () => {
    input.value = input.value.normalize("NFC");
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.focus();
    announce(say("composed"));
  });
}
