package events_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"orkestra.dev/pkg/events"
	shown "orkestra.dev/pkg/events/internal/examples"
	"orkestra.dev/pkg/events/internal/generated"
)

func TestRegistryHasEveryTypeOfTheContract(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "payloads.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Type" {
				declared = append(declared, strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`))
			}
		}
		return true
	})
	var known, shown []string
	for _, typ := range events.Types() {
		known = append(known, string(typ))
	}
	for _, p := range examples {
		shown = append(shown, string(p.EventType()))
	}
	slices.Sort(declared)
	slices.Sort(known)
	slices.Sort(shown)
	if diff := cmp.Diff(declared, known); diff != "" {
		t.Errorf("the registry and the constants (-declared +known):\n%s", diff)
	}
	if diff := cmp.Diff(declared, shown); diff != "" {
		t.Errorf("the examples and the constants (-declared +shown):\n%s", diff)
	}
}

func TestExamplesSetEveryField(t *testing.T) {
	var check func(path string, v reflect.Value)
	check = func(path string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				check(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case reflect.Slice:
			if v.Len() == 0 {
				t.Errorf("%s is empty", path)
				return
			}
			check(path, v.Index(0))
		default:
			if v.IsZero() {
				t.Errorf("%s is not set", path)
			}
		}
	}
	for _, p := range examples {
		check(string(p.EventType()), reflect.ValueOf(p))
	}
}

func TestIdentity(t *testing.T) {
	bare := events.Rollout{Group: "g", UID: "u", Generation: 1}
	odd := events.Rollout{Group: "g", UID: "u", Generation: 1, RequestedAt: "a/b\r\nNats-Msg-Id: x ☃"}
	long := events.Rollout{Group: "g", UID: "u", Generation: 1, RequestedAt: strings.Repeat("x", 250_000)}
	ref := events.WorkflowRef{Workflow: "w", WorkflowType: events.WorkflowReverse}
	release := events.ReleaseRef{Workflow: "w", ReleaseUID: "ru", ReleaseGeneration: 7}
	cases := map[string]struct {
		reason  string
		fact    events.Fact
		id      string
		subject string
	}{
		"Desired":           {"a request is part of it", events.New(rollout, events.GroupDesired{}), "group.desired/" + rollout.UID + "/3/2026-01-02T03:04:05Z", "orkestra.v1.group.book_info"},
		"NotRequested":      {"the place of the request stays", events.New(bare, events.ChartsStaged{}), "charts.staged/u/1/", "orkestra.v1.charts.g"},
		"Workflow":          {"type and name tell workflows apart", events.New(bare, events.WorkflowSubmitted{WorkflowRef: ref}), "workflow.submitted/u/1//reverse/w", "orkestra.v1.workflow.g"},
		"RejectedWorkflow":  {"it has no name", events.New(bare, events.WorkflowRejected{WorkflowType: events.WorkflowForward}), "workflow.rejected/u/1//forward", "orkestra.v1.workflow.g"},
		"Node":              {"name and node id tell nodes apart", events.New(bare, events.NodeFailed{NodeRef: events.NodeRef{WorkflowRef: ref, Node: "n/1"}}), "node.failed/u/1//w/n%2F1", "orkestra.v1.node.g"},
		"Release":           {"a release's own generation is part of it", events.New(bare, events.ReleaseReady{ReleaseRef: release}), "release.ready/u/1//w/ru/7", "orkestra.v1.release.g"},
		"Rollout":           {"type and name tell its workflows apart", events.New(bare, events.RolloutFailed{WorkflowRef: ref}), "rollout.failed/u/1//reverse/w", "orkestra.v1.rollout.g"},
		"HostileAnnotation": {"what a user typed does not leave its place", events.New(odd, events.GroupDesired{}), "group.desired/u/1/a%2Fb%0D%0ANats-Msg-Id:%20x%20%E2%98%83", "orkestra.v1.group.g"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := c.fact.EventID(); got != c.id {
				t.Errorf("%s: EventID() = %q, want %q", c.reason, got, c.id)
			}
			if got := events.Subject(c.fact); got != c.subject {
				t.Errorf("Subject() = %q, want %q", got, c.subject)
			}
		})
	}
	if id := events.New(long, events.GroupDesired{}).EventID(); len(id) > 120 || id == events.New(bare, events.GroupDesired{}).EventID() {
		t.Errorf("an annotation of 250 kB makes the id %q", id)
	}
	if id := odd.ID(); strings.ContainsAny(id, "\r\n") {
		t.Errorf("Rollout.ID() = %q has a line break", id)
	}
}

func TestGeneratedFilesAreCurrent(t *testing.T) {
	files, err := generated.Files(".")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Errorf("%v; run go generate", err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s is not current; run go generate:\n%s", name, cmp.Diff(string(got), string(want)))
		}
	}
	stale, err := generated.Stale(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stale {
		t.Errorf("%s belongs to nothing; run go generate", name)
	}
}

func schema(t *testing.T, typ events.Type) *jsonschema.Schema {
	t.Helper()
	raw, err := events.Schema(typ)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchemasDescribeEveryField(t *testing.T) {
	var check func(path string, v any)
	check = func(path string, v any) {
		object, _ := v.(map[string]any)
		properties, _ := object["properties"].(map[string]any)
		for name, p := range properties {
			property, _ := p.(map[string]any)
			_, described := property["description"]
			if _, refers := property["$ref"]; !described && !refers {
				t.Errorf("%s.%s has no description: give the field in payloads.go a comment", path, name)
			}
			check(path+"."+name, property)
		}
		definitions, _ := object["$defs"].(map[string]any)
		for name, d := range definitions {
			check(path+"#"+name, d)
		}
	}
	for _, typ := range events.Types() {
		raw, err := events.Schema(typ)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		check(string(typ), v)
	}
}

func TestSchemaVersion(t *testing.T) {
	for typ, want := range map[events.Type]string{
		events.TypeGroupDesired: "1.1", events.TypeGroupDeleted: "1.0", "dev.orkestra.moon.risen.v1": "",
	} {
		if got := events.SchemaVersion(typ); got != want {
			t.Errorf("SchemaVersion(%s) = %q, want %q", typ, got, want)
		}
	}
}

func TestSchemas(t *testing.T) {
	for _, p := range examples {
		t.Run(string(p.EventType()), func(t *testing.T) {
			s := schema(t, p.EventType())
			data, err := events.EncodeData(shown.Fact(p))
			if err != nil {
				t.Fatal(err)
			}
			var v map[string]any
			if err := json.Unmarshal(data, &v); err != nil {
				t.Fatal(err)
			}
			if err := s.Validate(v); err != nil {
				t.Errorf("the example does not validate: %v", err)
			}
			v["somethingNew"] = true
			if err := s.Validate(v); err != nil {
				t.Errorf("a field of a later version is refused: %v", err)
			}
			_, standalone := p.(events.Standalone)
			if _, ok := v["rollout"]; ok == standalone {
				t.Errorf("the data names a rollout: %t", ok)
			}
			delete(v, "rollout")
			if err := s.Validate(v); (err == nil) != standalone {
				t.Errorf("data without a rollout: %v", err)
			}
		})
	}
	if _, err := events.Schema("dev.orkestra.moon.risen.v1"); err == nil {
		t.Error("a type that is not in the contract has a schema")
	}
}
