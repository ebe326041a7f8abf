package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
)

const (
	// maxSchemaDepth is how deep a schema may be nested: validators call themselves for
	// each level.
	maxSchemaDepth = 256
	// home is what Helm calls a chart's schema when it validates values.
	home = "file:///values.schema.json"
)

// schema refuses a values.schema.json that has whoever validates values by it read a
// file of the machine: Helm follows a $ref to file: as it does one to https:. What
// is no JSON is left to who uses it.
func schema(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	w := schemaWalk{d: d}
	refs, err := w.value(1)
	if err != nil {
		if errors.Is(err, errNotJSON) {
			return nil
		}
		return err
	}
	base, err := url.Parse(home)
	if err != nil {
		return fmt.Errorf("reading %s: %w", home, err)
	}
	return refs.check(base)
}

var errNotJSON = errors.New("not JSON")

// references that a schema makes, and whose meaning depends on what is around it.
type references map[string]bool

// check refuses those that are files, seen from base.
func (r references) check(base *url.URL) error {
	for raw := range r {
		ref, err := url.Parse(raw)
		if err != nil || strings.HasPrefix(raw, "#") || raw == "" {
			continue // part of the schema itself, or of nothing
		}
		at := base.ResolveReference(ref)
		if at.Fragment = ""; at.Scheme == "file" && at.String() != home {
			return fmt.Errorf("it refers to %q, which is a file of the machine that validates values", raw)
		}
	}
	return nil
}

// schemaWalk reads a schema as a stream.
type schemaWalk struct{ d *json.Decoder }

func (w *schemaWalk) token() (json.Token, error) {
	t, err := w.d.Token()
	if err != nil {
		return nil, errNotJSON // also where it ends too early
	}
	return t, nil
}

// value reads one, and returns the references in it that are open.
func (w *schemaWalk) value(depth int) (references, error) {
	t, err := w.token()
	if err != nil {
		return nil, err
	}
	return w.rest(t, depth)
}

// rest reads what follows the first token of a value.
func (w *schemaWalk) rest(t json.Token, depth int) (references, error) {
	if depth > maxSchemaDepth {
		return nil, fmt.Errorf("it is nested more than %d deep", maxSchemaDepth)
	}
	switch t {
	case json.Delim('{'):
		return w.object(depth)
	case json.Delim('['):
		all := references{}
		for w.d.More() {
			refs, err := w.value(depth + 1)
			if err != nil {
				return nil, err
			}
			maps.Copy(all, refs)
		}
		_, err := w.token()
		return all, err
	default:
		return nil, nil
	}
}

// object reads the rest of one. An absolute $id closes the references below it. Those
// of the object itself are seen from the $id and from what is around it: drafts differ
// in which of the two holds.
func (w *schemaWalk) object(depth int) (references, error) {
	own, below, id := references{}, references{}, ""
	for w.d.More() {
		key, err := w.token()
		if err != nil {
			return nil, err
		}
		t, err := w.token()
		if err != nil {
			return nil, err
		}
		if text, ok := t.(string); ok {
			switch key {
			case "$id", "id":
				id = text
			case "$ref", "$dynamicRef", "$recursiveRef", "$schema":
				own[text] = true
			}
			continue
		}
		refs, err := w.rest(t, depth+1)
		if err != nil {
			return nil, err
		}
		maps.Copy(below, refs)
	}
	if _, err := w.token(); err != nil {
		return nil, err
	}
	if base, err := url.Parse(id); err == nil && base.IsAbs() {
		return own, errors.Join(own.check(base), below.check(base))
	}
	maps.Copy(own, below)
	return own, nil
}
