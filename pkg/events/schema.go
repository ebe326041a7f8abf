package events

import (
	"embed"
	"fmt"
)

//go:embed schemas/*.json
var schemas embed.FS

// Schema is the JSON Schema (draft 2020-12) of the data of a type's events:
// the payload's fields beside the rollout. It allows what it does not know.
func Schema(t Type) ([]byte, error) {
	if _, ok := decoders[t]; !ok {
		return nil, fmt.Errorf("type %q is not in the contract", t)
	}
	return schemas.ReadFile("schemas/" + string(t) + ".json")
}
