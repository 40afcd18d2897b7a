// Loaded before promptfoo, which calls home even to say that telemetry is off: the only connection that this process can
// make is to our gateway.
import dns from "node:dns";
import net from "node:net";

const { port } = new URL(process.env.EVALGATE_GATEWAY || "http://127.0.0.1:0");
const connect = net.Socket.prototype.connect;

net.Socket.prototype.connect = function (...given) {
  const [to] = Array.isArray(given[0]) ? given[0] : given; // as node:net hands it to itself, and as others call it
  if (to?.host === "127.0.0.1" && String(to.port) === port) return connect.apply(this, given);
  const refusal = Object.assign(new Error("evalgate: no network but the gateway"), { code: "ECONNREFUSED" });
  setImmediate(() => this.destroy(refusal)); // not before those who connect have begun to listen
  return this;
};

dns.lookup = (name, options, done = options) =>
  process.nextTick(done, Object.assign(new Error(`evalgate: no look-up of ${name}`), { code: "ENOTFOUND" }));
