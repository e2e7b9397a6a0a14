// MD5 (RFC 1321). WebCrypto does not have it, and SIP digest authentication needs it.

import { padded, hex } from "./block.js";

// K[i] is the integer part of 2^32 * |sin(i + 1)|, RFC 1321 section 3.4.
const K = Uint32Array.from({ length: 64 }, (_, i) => Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32));

// Four rotations for each round, used in turn.
const S = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/** Returns the digest of a Uint8Array as 32 hex digits. */
export function md5(bytes) {
  const view = padded(bytes, true);
  const state = Uint32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  for (let at = 0; at < view.byteLength; at += 64) {
    let [a, b, c, d] = state;
    for (let i = 0; i < 64; i++) {
      const round = i >> 4;
      let mix, word;
      switch (round) {
        case 0: mix = (b & c) | (~b & d); word = i; break;
        case 1: mix = (d & b) | (~d & c); word = (5 * i + 1) & 15; break;
        case 2: mix = b ^ c ^ d; word = (3 * i + 5) & 15; break;
        default: mix = c ^ (b | ~d); word = (7 * i) & 15;
      }
      const sum = (a + mix + K[i] + view.getUint32(at + 4 * word, true)) | 0;
      const by = S[round][i & 3];
      a = d;
      d = c;
      c = b;
      b = (b + ((sum << by) | (sum >>> (32 - by)))) | 0;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
  }
  return hex(state, true);
}
