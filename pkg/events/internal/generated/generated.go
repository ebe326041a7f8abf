// Package generated makes the files that follow from pkg/events: one JSON Schema
// per type, and the configurations of the topology for whoever sets JetStream up
// by other means than EnsureTopology.
package generated

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"orkestra.dev/pkg/events"
)

// Folders that hold generated JSON files and no others, relative to pkg/events.
var Folders = []string{"schemas", filepath.Join("..", "..", "deploy", "nats")}

const (
	schemaBase = "https://orkestra.dev/schemas/"
	// productionReplicas of the streams in the files; a single server wants 1.
	productionReplicas = 3
)

// Files are the generated files' contents by name, relative to pkg/events, whose
// folder is dir: the comments of the fields are read from the sources there.
func Files(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	if err := addSchemas(files, dir); err != nil {
		return nil, err
	}
	if err := addTopology(files); err != nil {
		return nil, err
	}
	return files, nil
}

func addSchemas(files map[string][]byte, dir string) error {
	r := &jsonschema.Reflector{
		AllowAdditionalProperties: true, // whoever hears is tolerant
		ExpandedStruct:            true,
	}
	if err := r.AddGoComments("orkestra.dev/pkg/events", dir, jsonschema.WithFullComment()); err != nil {
		return fmt.Errorf("reading comments: %w", err)
	}
	for name, comment := range r.CommentMap { // the sources' line breaks mean nothing
		r.CommentMap[name] = strings.Join(strings.Fields(comment), " ")
	}
	for _, p := range events.Payloads() {
		s := r.ReflectFromType(reflect.TypeOf(p))
		rollout := r.ReflectFromType(reflect.TypeFor[events.Rollout]())
		s.ID = jsonschema.ID(schemaBase + string(p.EventType()) + ".json")
		s.Title = string(p.EventType())
		if s.Properties == nil {
			s.Properties = jsonschema.NewProperties()
		}
		if _, taken := s.Properties.Get("rollout"); taken {
			return fmt.Errorf("%s: the field rollout is the contract's own", p.EventType())
		}
		rollout.Version, rollout.ID = "", ""
		s.Properties.Set("rollout", rollout)
		if err := s.Properties.MoveToFront("rollout"); err != nil {
			return err
		}
		s.Required = append([]string{"rollout"}, s.Required...)
		content, err := encode(s)
		if err != nil {
			return err
		}
		files[filepath.Join(Folders[0], string(p.EventType())+".json")] = content
	}
	return nil
}

func addTopology(files map[string][]byte) error {
	t := events.DefaultTopology()
	for _, s := range t.Streams {
		s.Replicas = productionReplicas
		content, err := encode(s)
		if err != nil {
			return err
		}
		files[filepath.Join(Folders[1], "stream-"+s.Name+".json")] = content
	}
	for _, c := range t.Consumers {
		content, err := encode(c)
		if err != nil {
			return err
		}
		files[filepath.Join(Folders[1], "consumer-"+c.Durable+".json")] = content
	}
	return nil
}

var unescape = strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&")

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	// The schema library escapes what JSON does not ask to be escaped.
	return []byte(unescape.Replace(b.String())), nil
}
