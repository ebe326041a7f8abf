package events

import (
	"embed"
	"fmt"
)

//go:embed schemas/*.json
var schemas embed.FS

// firstSchema is the version of a schema that is in no table.
const firstSchema = "1.0"

// schemaVersions are the versions of the schemas that have got optional fields. What is
// written down in schemas.lock.json is checked against it by go generate, and by the tests.
var schemaVersions = map[Type]string{
	TypeGroupDesired:   "1.1", // origin
	TypeGroupSuspended: "1.1", // origin
	TypeGroupDeleting:  "1.1", // origin
}

// Schema is the JSON Schema (draft 2020-12) of the data of a type's events:
// the payload's fields beside the rollout. It allows what it does not know.
func Schema(t Type) ([]byte, error) {
	if _, ok := decoders[t]; !ok {
		return nil, fmt.Errorf("type %q is not in the contract", t)
	}
	return schemas.ReadFile("schemas/" + string(t) + ".json")
}

// SchemaVersion is the version of a type's schema, <major>.<minor>: the minor grows with
// every optional field that the payload gets. Any other change of a payload is another
// type, so that the major never grows. It is empty for a type that is not in the contract.
func SchemaVersion(t Type) string {
	if _, ok := decoders[t]; !ok {
		return ""
	}
	if v, ok := schemaVersions[t]; ok {
		return v
	}
	return firstSchema
}

// Encode writes a fact as Say stores it: a CloudEvent in structured mode, said by source
// (orkestra://<cluster>/<service>). The fact's time is not filled in.
func Encode(f Fact, source string) ([]byte, error) { return encode(f, source) }
