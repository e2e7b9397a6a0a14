// The one-way keys that are computed from a password. No other module reads the password to send
// anything.

import { md5 } from "./md5.js";
import { sha256 } from "./sha256.js";

// The bytes exactly as typed: phones do not normalise a password, so this must not either.
const bytes = (text) => new TextEncoder().encode(text);

/** The hash functions by their names in RFC 7616. Each takes a string. */
export const hashes = {
  "MD5": (text) => md5(bytes(text)),
  "SHA-256": (text) => sha256(bytes(text)),
};

// The test vectors of RFC 1321 A.5 and FIPS 180-4, and one with text beyond ASCII.
const known = {
  "MD5": [
    ["", "d41d8cd98f00b204e9800998ecf8427e"],
    ["a", "0cc175b9c0f1b6a831c399e269772661"],
    ["abc", "900150983cd24fb0d6963f7d28e17f72"],
    ["message digest", "f96b697d7cb7938d525a2f31aaf161d0"],
    ["abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"],
    ["ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "d174ab98d277d9f5a5611c2c9f419d9f"],
    ["1234567890".repeat(8), "57edf4a22be3c955ac49da2e2107b67a"],
    ["Ünïcødé 🔐 ☎", "b6cbc15af2e69519cbde26dcac058262"],
  ],
  "SHA-256": [
    ["", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
    ["abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],
    ["abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"],
    ["abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"],
    ["Ünïcødé 🔐 ☎", "a3fc3a1c88f16823d722dc72b84450abf4ae5b4b03f5f65b2889379ba1faf3e5"],
  ],
};

/**
 * Whether the functions compute the published digests in this browser. If not, a form must not be
 * sent: a wrong key locks its owner out.
 */
export const sound = Object.entries(known).every(
  ([name, vectors]) => vectors.every(([text, digest]) => hashes[name](text) === digest),
);

/** H(A1) of RFC 7616 section 3.4.2. */
export function ha1(algorithm, user, realm, password) {
  return hashes[algorithm](`${user}:${realm}:${password}`);
}

/**
 * The keys of a new account: HA1, HA1 for phones that send user@domain as the user name, and HA1 by
 * SHA-256.
 */
export function keys(user, realm, password) {
  return {
    ha1: ha1("MD5", user, realm, password),
    ha1b: ha1("MD5", `${user}@${realm}`, realm, password),
    ha1_sha256: ha1("SHA-256", user, realm, password),
  };
}
