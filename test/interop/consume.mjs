// Reads what Orkestra says from the beginning of the stream, as anyone may who has the
// SDKs of NATS and CloudEvents: each message is parsed by the one that the CloudEvents
// project keeps, and its data validated by the schema that Orkestra publishes.
//
//   node consume.mjs --schemas <folder> [--group <name>] [--until <type>[,<type>] | --count <n>] [--timeout <seconds>]
//
// It prints a line per event, and exits 0 when it has read the number of events, or one of
// the type, 1 where an event is not what it should be or the time is over, 2 where it was
// called wrongly. NATS_URL, NATS_CA and NATS_NKEY (files) say where the stream is.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { DeliverPolicy, jetstream } from "@nats-io/jetstream";
import { connect, nkeyAuthenticator } from "@nats-io/transport-node";
import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { HTTP } from "cloudevents";

const stream = "ORKESTRA";

// what is a type without what all types share: group.desired.
const what = (type) => type.replace(/^dev\.orkestra\./, "").replace(/\.v1$/, "");

// validators are the compiled schemas of a folder, by their identity.
function validators(folder) {
  const ajv = new Ajv.default({ allErrors: true });
  addFormats.default(ajv);
  const compiled = new Map();
  for (const name of readdirSync(folder)) {
    const schema = JSON.parse(readFileSync(join(folder, name), "utf8"));
    compiled.set(schema.$id, ajv.compile(schema));
  }
  return compiled;
}

// read parses and validates one message.
function read(message, schemas) {
  const headers = {};
  for (const name of message.headers?.keys() ?? []) {
    headers[name.toLowerCase()] = message.headers.get(name);
  }
  const event = HTTP.toEvent({ headers, body: message.string() });
  event.validate();
  const validate = schemas.get(event.dataschema);
  if (!validate) {
    throw new Error(`${event.type} names a schema that is not there: ${event.dataschema}`);
  }
  if (!validate(event.data)) {
    throw new Error(`${event.id}: ${validate.errors.map((e) => `data${e.instancePath} ${e.message}`).join("; ")}`);
  }
  if (headers["nats-msg-id"] !== event.id) {
    throw new Error(`${event.id} was stored under the id ${headers["nats-msg-id"]}`);
  }
  return event;
}

// line is an event for people: its place, who says what of what, and because of what.
function line(message, event) {
  const about = event.data.task ?? event.data.name ?? event.data.workflow ?? event.subject;
  const because = event.causationid ? `  <- ${event.causationid.split("/")[0]}` : "";
  return `${String(message.seq).padStart(4)}  ${event.source.split("/").at(-1).padEnd(8)}  ${what(event.type).padEnd(18)}  ${about}${because}`;
}

async function open({ NATS_URL, NATS_CA, NATS_NKEY }) {
  return await connect({
    servers: (NATS_URL ?? "nats://127.0.0.1:4222").split(","),
    name: "orkestra-interop",
    ...(NATS_CA && { tls: { caFile: NATS_CA } }),
    ...(NATS_NKEY && { authenticator: nkeyAuthenticator(new TextEncoder().encode(readFileSync(NATS_NKEY, "utf8").trim())) }),
  });
}

async function main() {
  const { values: options } = parseArgs({
    options: {
      schemas: { type: "string" }, group: { type: "string" }, until: { type: "string" },
      count: { type: "string" }, timeout: { type: "string", default: "60" },
    },
  });
  if (!options.schemas || !(options.until || Number(options.count) > 0) || !(Number(options.timeout) > 0)) {
    console.error("--schemas, a --timeout, and either --until or --count are needed");
    return 2;
  }
  const schemas = validators(options.schemas);
  const last = new Set(options.until?.split(","));
  const connection = await open(process.env);
  const consumer = await jetstream(connection).consumers.get(stream, {
    deliver_policy: DeliverPolicy.All,
    // Not as a list: with one the SDK makes a consumer without a name, which a reader may not.
    ...(options.group && { filter_subjects: `orkestra.v1.*.${options.group.replaceAll(".", "_")}` }),
  });
  const messages = await consumer.consume();
  let over = false;
  const timer = setTimeout(() => {
    over = true;
    messages.stop();
  }, options.timeout * 1000);
  let count = 0;
  let wrong = 0;
  for await (const message of messages) {
    count++;
    try {
      const event = read(message, schemas);
      console.log(line(message, event));
      if (last.has(what(event.type))) break;
    } catch (error) {
      wrong++;
      console.error(`${String(message.seq).padStart(4)}  ${message.subject}: ${error.message}`);
    }
    if (count === Number(options.count)) break;
  }
  clearTimeout(timer);
  await connection.close();
  console.log(`${count} events, ${count - wrong} valid`);
  if (over) console.error(`what was waited for did not come within ${options.timeout} s`);
  return over || wrong > 0 ? 1 : 0;
}

process.exitCode = await main().catch((error) => {
  console.error(error.message);
  return 1;
});
