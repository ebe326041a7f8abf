// Validates an AsyncAPI document with AsyncAPI's own parser: node asyncapi.mjs <file>.
// Exits 1 where the document has an error or a warning.
import { readFileSync } from "node:fs";

import { DiagnosticSeverity, Parser } from "@asyncapi/parser";

const source = process.argv[2];
const { document, diagnostics } = await new Parser().parse(readFileSync(source, "utf8"), { source });
const wrong = diagnostics.filter((d) => d.severity <= DiagnosticSeverity.Warning);
for (const d of wrong) {
  console.error(`${d.code} at ${d.path.join(".")}: ${d.message}`);
}
if (!document || wrong.length > 0) {
  process.exitCode = 1;
} else {
  console.log(`AsyncAPI ${document.version()}: ${document.channels().length} channels, ${document.operations().length} operations, ${document.messages().length} messages`);
}
