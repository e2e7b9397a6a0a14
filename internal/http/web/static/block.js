// The padding and the hex digits of MD5 and SHA-256. Both use blocks of 64 bytes and differ in the
// byte order.

/** Returns the bytes, a 1 bit, zeros, and the length in bits as the last 8 bytes. */
export function padded(bytes, littleEndian) {
  const size = ((bytes.length + 8) >> 6) * 64 + 64;
  const out = new Uint8Array(size);
  out.set(bytes);
  out[bytes.length] = 0x80;
  const view = new DataView(out.buffer);
  const low = (bytes.length << 3) >>> 0;
  const high = Math.floor(bytes.length / 2 ** 29);
  view.setUint32(size - 8, littleEndian ? low : high, littleEndian);
  view.setUint32(size - 4, littleEndian ? high : low, littleEndian);
  return view;
}

/** Returns the words of a digest as hex digits. */
export function hex(words, littleEndian) {
  const view = new DataView(new ArrayBuffer(words.length * 4));
  words.forEach((word, i) => view.setUint32(4 * i, word, littleEndian));
  let out = "";
  for (let i = 0; i < view.byteLength; i++) out += view.getUint8(i).toString(16).padStart(2, "0");
  return out;
}
