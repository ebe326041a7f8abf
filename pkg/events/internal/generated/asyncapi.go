package generated

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"

	"orkestra.dev/pkg/events"
)

const (
	asyncAPIVersion = "3.0.0"
	// contractVersion is that of subjects and envelope, the v1 in orkestra.v1.>; types
	// have versions of their own.
	contractVersion = "1.0.0"
	structuredMode  = "application/cloudevents+json"
)

// asyncAPI is an AsyncAPI document, as far as there is something to say.
type asyncAPI struct {
	AsyncAPI           string               `json:"asyncapi"`
	Info               info                 `json:"info"`
	DefaultContentType string               `json:"defaultContentType"`
	Servers            map[string]server    `json:"servers"`
	Channels           map[string]channel   `json:"channels"`
	Operations         map[string]operation `json:"operations"`
	Components         components           `json:"components"`
}

type info struct {
	Title       string  `json:"title"`
	Version     string  `json:"version"`
	Description string  `json:"description"`
	License     license `json:"license"`
}

type license struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

type server struct {
	Host        string `json:"host"`
	Protocol    string `json:"protocol"`
	Description string `json:"description"`
}

type channel struct {
	Address     string                 `json:"address"`
	Description string                 `json:"description"`
	Messages    map[string]ref         `json:"messages"`
	Parameters  map[string]description `json:"parameters"`
}

type description struct {
	Description string `json:"description"`
}

type ref struct {
	Ref string `json:"$ref"`
}

type operation struct {
	Action   string `json:"action"`
	Channel  ref    `json:"channel"`
	Summary  string `json:"summary"`
	Messages []ref  `json:"messages"`
}

type components struct {
	Messages map[string]message `json:"messages"`
	Schemas  map[string]any     `json:"schemas"`
}

type message struct {
	Name        string    `json:"name"`
	Title       string    `json:"title"`
	Summary     string    `json:"summary"`
	ContentType string    `json:"contentType"`
	Payload     any       `json:"payload"`
	Examples    []example `json:"examples"`
}

type example struct {
	Name    string          `json:"name"`
	Payload json.RawMessage `json:"payload"`
}

func addAsyncAPI(files map[string][]byte, _ string, c *catalogue) error {
	doc := asyncAPI{
		AsyncAPI: asyncAPIVersion,
		Info: info{
			Title:       "Orkestra",
			Version:     contractVersion,
			Description: "What Orkestra's services say while they roll out groups of Helm releases: CloudEvents 1.0 in structured mode, in the JetStream stream " + events.StreamEvents + ".",
			License:     license{Name: "Apache-2.0", URL: "https://www.apache.org/licenses/LICENSE-2.0"},
		},
		DefaultContentType: structuredMode,
		Servers: map[string]server{"nats": {
			Host: "localhost:4222", Protocol: "nats", Description: "Any NATS server with JetStream.",
		}},
		Channels:   map[string]channel{},
		Operations: map[string]operation{},
		Components: components{Messages: map[string]message{}, Schemas: map[string]any{"cloudevent": envelope()}},
	}
	for _, e := range c.entries {
		if err := doc.add(e, files); err != nil {
			return fmt.Errorf("%s: %w", e.eventType(), err)
		}
	}
	content, err := asYAML(doc)
	if err != nil {
		return err
	}
	files[filepath.Join(docs, "asyncapi.yaml")] = append([]byte("# Generated from pkg/events by go generate.\n"), content...)
	return nil
}

// add adds a type: its message and schema, its thing's channel, and the operations of who
// says and of who hears it.
func (doc *asyncAPI) add(e entry, files map[string][]byte) error {
	name, thing := e.eventType().What(), e.eventType().Thing()
	data, err := doc.schema(files[schemaFile(e.eventType())])
	if err != nil {
		return err
	}
	doc.Components.Schemas[name] = data
	doc.Components.Messages[name] = message{
		Name: string(e.eventType()), Title: name, Summary: e.when, ContentType: structuredMode,
		Payload: map[string]any{"allOf": []any{
			ref{"#/components/schemas/cloudevent"},
			map[string]any{"properties": map[string]any{
				"type": map[string]any{"const": e.eventType()},
				"data": ref{"#/components/schemas/" + name},
			}},
		}},
		Examples: []example{{Name: name, Payload: files[filepath.Join(docs, "examples", string(e.eventType())+".json")]}},
	}
	if _, ok := doc.Channels[thing]; !ok {
		about := parameter(thing)
		called := about
		if thing == events.TypeWebhookReceived.Thing() {
			called += ", <namespace>/<name>"
		}
		doc.Channels[thing] = channel{
			Address: address(e.payload), Description: "What is said of " + things[thing] + ".", Messages: map[string]ref{},
			Parameters: map[string]description{about: {"The name of the " + called + ", with _ for each dot in it."}},
		}
	}
	doc.Channels[thing].Messages[name] = ref{"#/components/messages/" + name}
	doc.operation("send", e.by, "says", thing, name)
	for _, service := range hears(e.eventType()) {
		doc.operation("receive", service, "hears", thing, name)
	}
	return nil
}

// things are the nouns of the channels.
var things = map[string]string{
	"group": "a group", "charts": "the charts of a group", "workflow": "a group's workflows", "node": "the nodes of a group's workflows",
	"release": "a group's HelmReleases", "rollout": "how a group's rollouts ended", "webhook": "deliveries to a Receiver", "chart": "charts in the staging repository",
}

func (doc *asyncAPI) operation(action, service, verb, thing, name string) {
	key := service + "." + verb + "." + thing
	o, ok := doc.Operations[key]
	if !ok {
		o = operation{Action: action, Channel: ref{"#/channels/" + thing}, Summary: sentence(service) + " " + verb + " what is new about " + things[thing] + "."}
	}
	o.Messages = append(o.Messages, ref{"#/channels/" + thing + "/messages/" + name})
	doc.Operations[key] = o
}

// schema is a schema as a part of the document: what it defines for itself becomes a schema
// of the document.
func (doc *asyncAPI) schema(raw []byte) (map[string]any, error) {
	moved := bytes.ReplaceAll(raw, []byte("#/$defs/"), []byte("#/components/schemas/"))
	var schema map[string]any
	if err := json.Unmarshal(moved, &schema); err != nil {
		return nil, err
	}
	defs, _ := schema["$defs"].(map[string]any)
	for name, def := range defs {
		doc.Components.Schemas[name] = def
	}
	for _, keyword := range []string{"$defs", "$schema", "$comment"} {
		delete(schema, keyword)
	}
	// The identity is the file's: here it would change what the references mean.
	delete(schema, "$id")
	return schema, nil
}

// envelope is the schema of the attributes that all events share.
func envelope() any {
	text := func(says string) map[string]any { return map[string]any{"type": "string", "description": says} }
	format := func(kind, says string) map[string]any {
		return map[string]any{"type": "string", "format": kind, "description": says}
	}
	return map[string]any{
		"type":     "object",
		"required": []string{"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "partitionkey", "correlationid", "data"},
		"properties": map[string]any{
			"specversion":     map[string]any{"const": "1.0"},
			"id":              text("A function of what is said, so that saying it twice is saying it once."),
			"source":          format("uri", "Who says it: orkestra://<cluster>/<service>."),
			"type":            text("dev.orkestra.<thing>.<what happened>.v1"),
			"subject":         text("The name of what the event is about."),
			"time":            format("date-time", "When it happened."),
			"datacontenttype": map[string]any{"const": "application/json"},
			"dataschema":      format("uri", "The identity of the schema of the data."),
			"partitionkey":    text("What the events that keep their order have in common: the group's UID."),
			"correlationid":   text("What the events that belong together have in common: the rollout."),
			"causationid":     text("The id of the event that led to this one."),
			"traceparent":     text("The W3C trace context in which the story began."),
			"data":            map[string]any{"type": "object"},
		},
	}
}

// asYAML writes a value as YAML in the order of its JSON.
func asYAML(v any) ([]byte, error) {
	raw, err := encode(v)
	if err != nil {
		return nil, err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(raw, &node); err != nil {
		return nil, err
	}
	block(&node)
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&node); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}

// block makes a document that was read from JSON look like one that is YAML. A string that
// YAML would read as something else keeps its quotes.
func block(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && (n.Value == "" || strings.ContainsAny(n.Value, ":#{}[]\"'*&!|>%@`\\\n") || !plain(n.Value)) {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, child := range n.Content {
		block(child)
	}
}

// plain reports whether YAML reads a word as a string.
func plain(s string) bool {
	var n yaml.Node
	return yaml.Unmarshal([]byte(s), &n) == nil && len(n.Content) == 1 && n.Content[0].Tag == "!!str"
}
