package generated

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
)

// fieldsOf lists the fields of a schema in its order, those of objects in it by dotted path.
func fieldsOf(raw []byte) ([]field, error) {
	var schema jsonschema.Schema
	if err := json.Unmarshal(raw, &schema); err != nil {
		return nil, err
	}
	return appendFields(nil, "", &schema, schema.Definitions), nil
}

func appendFields(fields []field, path string, s *jsonschema.Schema, defs jsonschema.Definitions) []field {
	s = resolve(s, defs)
	for pair := s.Properties.Oldest(); pair != nil; pair = pair.Next() {
		property := resolve(pair.Value, defs)
		f := field{
			Path: path + pair.Key, Type: property.Type, Description: pair.Value.Description,
			Required: slices.Contains(s.Required, pair.Key),
		}
		if f.Description == "" {
			f.Description = property.Description
		}
		inner, below := property, f.Path+"."
		if property.Type == "array" {
			inner, below = resolve(property.Items, defs), f.Path+"[]."
			f.Type = "array of " + inner.Type
		}
		fields = append(fields, f)
		if inner.Properties != nil {
			fields = appendFields(fields, below, inner, defs)
		}
	}
	return fields
}

func resolve(s *jsonschema.Schema, defs jsonschema.Definitions) *jsonschema.Schema {
	if target, ok := defs[strings.TrimPrefix(s.Ref, "#/$defs/")]; ok {
		return target
	}
	return s
}
