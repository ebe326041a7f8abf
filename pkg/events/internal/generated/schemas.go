package generated

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/internal/versions"
)

// lockFile has every version of every schema.
const lockFile = "schemas.lock.json"

const packagePath = "orkestra.dev/pkg/events"

func addSchemas(files map[string][]byte, dir string, c *catalogue) error {
	r := &jsonschema.Reflector{
		AllowAdditionalProperties: true, // whoever hears is tolerant
		ExpandedStruct:            true,
	}
	if err := r.AddGoComments(packagePath, dir, jsonschema.WithFullComment()); err != nil {
		return fmt.Errorf("reading comments: %w", err)
	}
	for name, comment := range r.CommentMap { // the sources' line breaks mean nothing
		r.CommentMap[name] = strings.Join(strings.Fields(comment), " ")
	}
	for name, comment := range c.fields {
		r.CommentMap[packagePath+"."+name] = comment
	}
	for _, e := range c.entries {
		r.CommentMap[packagePath+"."+structName(e.payload)] = e.says
		s, err := schemaOf(r, e.payload)
		if err != nil {
			return err
		}
		content, err := encode(s)
		if err != nil {
			return err
		}
		files[schemaFile(e.eventType())] = content
	}
	return nil
}

func schemaFile(t events.Type) string { return filepath.Join(Folders[0], string(t)+".json") }

// schemaOf is the schema of an event's data: that of the payload, with the rollout in front
// unless it is about none.
func schemaOf(r *jsonschema.Reflector, p events.Payload) (*jsonschema.Schema, error) {
	s := r.ReflectFromType(reflect.TypeOf(p))
	s.ID = jsonschema.ID(schemaBase + string(p.EventType()) + ".json")
	s.Title = string(p.EventType())
	s.Comments = "version " + events.SchemaVersion(p.EventType())
	if s.Properties == nil {
		s.Properties = jsonschema.NewProperties()
	}
	if _, taken := s.Properties.Get("rollout"); taken {
		return nil, fmt.Errorf("%s: the field rollout is the contract's own", p.EventType())
	}
	if _, ok := p.(events.Standalone); ok {
		return s, nil
	}
	rollout := r.ReflectFromType(reflect.TypeFor[events.Rollout]())
	rollout.Version, rollout.ID = "", ""
	s.Properties.Set("rollout", rollout)
	s.Required = append([]string{"rollout"}, s.Required...)
	return s, s.Properties.MoveToFront("rollout")
}

// addLock adds what is new to the versions that are written down. It fails where a payload
// is not what its version says.
func addLock(files map[string][]byte, dir string, c *catalogue) error {
	raw, err := os.ReadFile(filepath.Join(dir, lockFile))
	if err != nil {
		return err
	}
	lock, err := versions.ReadLock(raw)
	if err != nil {
		return err
	}
	for _, e := range c.entries {
		if err := lock.Add(string(e.eventType()), events.SchemaVersion(e.eventType()), files[schemaFile(e.eventType())]); err != nil {
			return err
		}
	}
	for name := range lock {
		if events.SchemaVersion(events.Type(name)) == "" {
			return fmt.Errorf("%s is gone from the contract, and its events are still in the stream: keep its payload, or take it out of %s", name, lockFile)
		}
	}
	files[lockFile], err = encode(lock)
	return err
}
