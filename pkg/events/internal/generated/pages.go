package generated

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/internal/examples"
)

//go:embed *.tmpl
var templates embed.FS

// docs is the folder of the catalogue, relative to pkg/events.
var docs = filepath.Join("..", "..", "docs", "events")

const (
	subjectPrefix = "orkestra.v1."
	exampleSource = "orkestra://prod/"
)

// page is what the template of a type's page sees.
type page struct {
	Type    events.Type
	When    string
	Says    string
	By      string
	Hears   []string
	Subject string
	ID      string
	Then    []events.Type
	Because []events.Type
	Version string
	Fields  []field
	Example string
}

// field is one field of an event's data.
type field struct {
	Path, Type, Description string
	Required                bool
}

func addPages(files map[string][]byte, _ string, c *catalogue) error {
	funcs := template.FuncMap{
		"join": strings.Join,
		"what": func(t events.Type) string { return t.What() },
		"cell": func(s string) string { return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(s) },
	}
	t, err := template.New("").Funcs(funcs).ParseFS(templates, "*.tmpl")
	if err != nil {
		return err
	}
	var pages []page
	for _, e := range c.entries {
		example, err := exampleOf(e)
		if err != nil {
			return err
		}
		files[filepath.Join(docs, "examples", string(e.eventType())+".json")] = example
		p, err := pageOf(c, e, files[schemaFile(e.eventType())], example)
		if err != nil {
			return fmt.Errorf("%s: %w", e.eventType(), err)
		}
		pages = append(pages, p)
		var b bytes.Buffer
		if err := t.ExecuteTemplate(&b, "page.md.tmpl", p); err != nil {
			return err
		}
		files[filepath.Join(docs, "types", e.eventType().What()+".md")] = b.Bytes()
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "index.md.tmpl", pages); err != nil {
		return err
	}
	files[filepath.Join(docs, "types", "README.md")] = b.Bytes()
	return nil
}

// exampleOf is the CloudEvent of a type's example, as it is stored.
func exampleOf(e entry) ([]byte, error) {
	for _, p := range examples.Payloads() {
		if p.EventType() != e.eventType() {
			continue
		}
		raw, err := events.Encode(examples.Fact(p), exampleSource+e.by)
		if err != nil {
			return nil, fmt.Errorf("the example of %s: %w", e.eventType(), err)
		}
		var b bytes.Buffer
		if err := json.Indent(&b, []byte(unescape.Replace(string(raw))), "", "  "); err != nil {
			return nil, err
		}
		return append(b.Bytes(), '\n'), nil
	}
	return nil, fmt.Errorf("%s has no example", e.eventType())
}

func pageOf(c *catalogue, e entry, schema, example []byte) (page, error) {
	p := page{
		Type: e.eventType(), When: e.when, Says: e.says, By: e.by, Hears: hears(e.eventType()),
		Subject: address(e.payload), ID: idOf(e.payload), Then: e.then,
		Version: events.SchemaVersion(e.eventType()), Example: string(example),
	}
	for _, other := range c.entries {
		if slices.Contains(other.then, e.eventType()) {
			p.Because = append(p.Because, other.eventType())
		}
	}
	var err error
	p.Fields, err = fieldsOf(schema)
	return p, err
}

// address is the subject of a payload's events, with what it is about in braces.
func address(p events.Payload) string {
	return subjectPrefix + p.EventType().Thing() + ".{" + parameter(p.EventType().Thing()) + "}"
}

// parameter is the name of what the events of a thing are about.
func parameter(thing string) string {
	switch thing {
	case events.TypeWebhookReceived.Thing():
		return "receiver"
	case events.TypeChartPushed.Thing():
		return "tenant"
	default:
		return "group"
	}
}

// idOf is the id of the type's example, which shows its form.
func idOf(p events.Payload) string {
	for _, example := range examples.Payloads() {
		if example.EventType() == p.EventType() {
			return examples.Fact(example).EventID()
		}
	}
	return ""
}
