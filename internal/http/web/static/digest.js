// HTTP Digest authentication (RFC 7616): the server sends a challenge, and the page answers it
// without sending the password or its key. For scripts the server calls the scheme X-Digest, so
// that the browser does not open its own password dialog.

import { hashes, ha1 } from "./keys.js";

/**
 * Parses a WWW-Authenticate field (RFC 9110 section 11.6.1) to [{ scheme, params }], with names in
 * lower case.
 */
export function challenges(field) {
  const found = [];
  let at = 0;
  const take = (pattern) => {
    pattern.lastIndex = at;
    const match = pattern.exec(field);
    if (match) at = pattern.lastIndex;
    return match;
  };
  const token = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
  while (at < field.length) {
    take(/[ \t,]+/y);
    const name = take(token)?.[0].toLowerCase();
    if (name === undefined) {
      at++;
      continue;
    }
    if (found.length && take(/[ \t]*=[ \t]*/y)) {
      const quoted = take(/"((?:[^"\\]|\\.)*)"/y);
      const value = quoted ? quoted[1].replace(/\\(.)/g, "$1") : take(token)?.[0];
      if (value !== undefined && !found.at(-1).params.has(name)) found.at(-1).params.set(name, value);
    } else {
      found.push({ scheme: name, params: new Map() });
    }
  }
  return found;
}

/**
 * Returns the parameters of the first Digest challenge that this module can answer, or undefined.
 */
export function digestChallenge(field) {
  return challenges(field).find(({ scheme, params }) =>
    (scheme === "x-digest" || scheme === "digest")
    && params.has("realm") && params.has("nonce")
    && (params.get("algorithm") ?? "MD5").toUpperCase() in hashes
    && (params.get("qop") ?? "").split(",").some((qop) => qop.trim().toLowerCase() === "auth"))?.params;
}

const quote = (text) => `"${text.replace(/["\\]/g, "\\$&")}"`;

/** Returns 128 random bits as hex digits. */
export function freshNonce() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Returns the Authorization field that answers a challenge, for the first request with its nonce.
 * held has the keys by algorithm and replaces the password.
 */
export function authorization(params, { user, password, held, method, uri, cnonce = freshNonce() }) {
  const algorithm = (params.get("algorithm") ?? "MD5").toUpperCase();
  const hash = hashes[algorithm];
  const [realm, nonce, nc] = [params.get("realm"), params.get("nonce"), "00000001"];
  const key = held ? held[algorithm] : ha1(algorithm, user, realm, password);
  const response = hash([key, nonce, nc, cnonce, "auth", hash(`${method}:${uri}`)].join(":"));
  const parts = [
    `username=${quote(user)}`, `realm=${quote(realm)}`, `nonce=${quote(nonce)}`, `uri=${quote(uri)}`,
    `algorithm=${algorithm}`, "qop=auth", `nc=${nc}`, `cnonce="${cnonce}"`, `response="${response}"`,
  ];
  if (params.has("opaque")) parts.push(`opaque=${quote(params.get("opaque"))}`);
  return `Digest ${parts.join(", ")}`;
}
