// SHA-256 (FIPS 180-4). WebCrypto has it too, but only in a secure context, and a phone platform inside an office network
// may well be served by plain http.

import { padded, hex } from "./block.js";

const primes = [];
for (let n = 2; primes.length < 64; n++) {
  if (primes.every((p) => n % p)) primes.push(n);
}

// The first 32 bits of the fractional parts of roots of the first primes: square roots for the start, cube roots for K.
const fraction = (x) => Math.floor((x - Math.floor(x)) * 2 ** 32);
const START = Uint32Array.from(primes.slice(0, 8), (p) => fraction(Math.sqrt(p)));
const K = Uint32Array.from(primes, (p) => fraction(Math.cbrt(p)));

const turn = (x, n) => (x >>> n) | (x << (32 - n));

/** The digest of a Uint8Array, as 64 hex digits. */
export function sha256(bytes) {
  const view = padded(bytes, false);
  const state = START.slice();
  const w = new Uint32Array(64);
  for (let at = 0; at < view.byteLength; at += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getUint32(at + 4 * i);
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15];
      const y = w[i - 2];
      w[i] = w[i - 16] + (turn(x, 7) ^ turn(x, 18) ^ (x >>> 3)) + w[i - 7] + (turn(y, 17) ^ turn(y, 19) ^ (y >>> 10));
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + one) | 0;
      d = c;
      c = b;
      b = a;
      a = (one + two) | 0;
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => { state[i] += word; });
  }
  return hex(state, false);
}
