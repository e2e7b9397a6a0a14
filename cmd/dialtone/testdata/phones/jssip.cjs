// Runs a script for a page with JsSIP, from standard input, as a page would: JsSIP and prompt are there.
const { readFileSync } = require("node:fs");
const vm = require("node:vm");

globalThis.JsSIP = { ...require("jssip"), WebSocketInterface: require("jssip-node-websocket") };
globalThis.prompt = (question) => {
  console.log("asked: " + question);
  return process.env.PASSWORD;
};
vm.runInThisContext(readFileSync(0, "utf8") + ";globalThis.phone = phone;");
phone.on("registered", () => { console.log("registered"); process.exit(0); });
phone.on("registrationFailed", ({ cause }) => { console.log("failed: " + cause); process.exit(1); });
setTimeout(() => { console.log("nothing in 10 s"); process.exit(1); }, 10000);
