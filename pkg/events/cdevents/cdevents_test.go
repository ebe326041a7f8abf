package cdevents_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/cdevents"
	"orkestra.dev/pkg/events/internal/examples"
)

const source = "orkestra://prod/watcher"

func heard(r events.Rollout, p events.Payload) events.Fact {
	f := events.New(r, p)
	f.Source, f.Time = source, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.CausationID = "group.desired/u/1/"
	return f
}

// published compiles the schema that CDEvents published for a type.
func published(t *testing.T, eventType string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	files, err := filepath.Glob("testdata/schemas/*.json")
	if err != nil {
		t.Fatal(err)
	}
	links, err := filepath.Glob("testdata/schemas/links/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, links...) {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource(doc.(map[string]any)["$id"].(string), doc); err != nil {
			t.Fatal(err)
		}
	}
	subject, predicate, _ := strings.Cut(strings.TrimPrefix(eventType, "dev.cdevents."), ".")
	predicate, _, _ = strings.Cut(predicate, ".")
	s, err := c.Compile("https://cdevents.dev/" + cdevents.SpecVersion + "/schema/" + subject + "-" + predicate + "-event")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// conforms fails where an event's data is not what CDEvents published for its type.
func conforms(t *testing.T, e event.Event) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Data()))
	if err != nil {
		t.Fatal(err)
	}
	if err := published(t, e.Type()).Validate(doc); err != nil {
		t.Errorf("%s: %v\n%s", e.ID(), err, e.Data())
	}
}

func TestEventsAreWhatCDEventsPublishes(t *testing.T) {
	first := examples.Rollout
	first.Generation, first.RequestedAt = 1, ""
	facts := []events.Fact{heard(first, events.GroupDesired{})}
	for _, p := range examples.Payloads() {
		r := examples.Rollout
		if _, ok := p.(events.Standalone); ok {
			r = events.Rollout{}
		}
		facts = append(facts, heard(r, p))
	}
	seen := map[string]bool{}
	for _, f := range facts {
		mapped, err := cdevents.Of(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range mapped {
			if seen[e.ID()] {
				t.Errorf("%s is the id of two events", e.ID())
			}
			seen[e.ID()] = true
			conforms(t, e)
		}
	}
	if len(seen) < 12 {
		t.Errorf("the examples make %d events, want one of each type at least", len(seen))
	}
}

func TestTheEnvelopeRepeatsTheContext(t *testing.T) {
	f := heard(examples.Rollout, events.GroupDeleted{})
	f.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	mapped, err := cdevents.Of(f)
	if err != nil || len(mapped) != 1 {
		t.Fatalf("Of() = %v, %v", mapped, err)
	}
	e := mapped[0]
	var got struct {
		Context map[string]any `json:"context"`
		Subject map[string]any `json:"subject"`
		Custom  map[string]any `json:"customData"`
	}
	if err := json.Unmarshal(e.Data(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"specversion": cdevents.SpecVersion, "id": e.ID(), "source": e.Source(), "type": e.Type(),
		"timestamp": "2026-01-02T03:04:05Z",
	}
	if diff := cmp.Diff(want, got.Context); diff != "" {
		t.Errorf("the context (-envelope +data):\n%s", diff)
	}
	if got.Subject["id"] != e.Subject() || got.Subject["source"] != "orkestra://prod" {
		t.Errorf("the subject is %v, that of the envelope %q", got.Subject, e.Subject())
	}
	if got.Custom["event"] != f.EventID() || got.Custom["causationid"] != f.CausationID {
		t.Errorf("customData = %v does not lead back to %s", got.Custom, f.EventID())
	}
	if e.Extensions()["traceparent"] != f.TraceParent {
		t.Errorf("the extensions %v have no trace", e.Extensions())
	}
}

func TestMapping(t *testing.T) {
	r := events.Rollout{Group: "book.info", UID: "u", Generation: 2}
	first := events.Rollout{Group: "book.info", UID: "u", Generation: 1}
	forward := events.WorkflowRef{Workflow: "bookinfo-forward-g2-0a1b2c3d", WorkflowType: events.WorkflowForward}
	release := func(workflow string, generation int64) events.ReleaseReady {
		return events.ReleaseReady{
			ReleaseRef: events.ReleaseRef{Workflow: workflow, Namespace: "n", Name: "web", ReleaseUID: "r", ReleaseGeneration: generation},
			Chart:      "web", Version: "1.0.0+orkestra.1a",
		}
	}
	const web = "pkg:helm/book.info/web@1.0.0%2Borkestra.1a"
	cases := map[string]struct {
		reason  string
		fact    events.Fact
		types   []string
		subject string
		says    string // part of the first event's data
	}{
		"FirstDesire":     {"a group that is new is an environment", heard(first, events.GroupDesired{}), []string{"environment.created"}, "book.info", `"name":"book.info"`},
		"LaterDesire":     {"what is asked for is no change yet", heard(r, events.GroupDesired{}), nil, "", ""},
		"GroupGone":       {"", heard(r, events.GroupDeleted{}), []string{"environment.deleted"}, "book.info", ""},
		"Begun":           {"a workflow is a run", heard(r, events.WorkflowSubmitted{WorkflowRef: forward}), []string{"pipelinerun.started"}, forward.Workflow, `"uri":"orkestra://prod/workflows/bookinfo-forward-g2-0a1b2c3d"`},
		"Succeeded":       {"the environment is another now", heard(r, events.RolloutSucceeded{WorkflowRef: forward}), []string{"pipelinerun.finished", "environment.modified"}, forward.Workflow, `"outcome":"success"`},
		"Failed":          {"", heard(r, events.RolloutFailed{WorkflowRef: forward, Reason: "Failed", Message: "m"}), []string{"pipelinerun.finished"}, forward.Workflow, `"outcome":"failure","errors":"m"`},
		"Terminated":      {"who stops a run cancels it", heard(r, events.RolloutFailed{WorkflowRef: forward, Reason: "Terminated"}), []string{"pipelinerun.finished"}, forward.Workflow, `"outcome":"cancel"`},
		"Error":           {"", heard(r, events.RolloutFailed{WorkflowRef: forward, Reason: "Error"}), []string{"pipelinerun.finished"}, forward.Workflow, `"outcome":"error"`},
		"NodeFailed":      {"a node is a task of its run", heard(r, events.NodeFailed{NodeRef: events.NodeRef{WorkflowRef: forward, Node: "w-1", Task: "a.b"}, Message: "m"}), []string{"taskrun.finished"}, "w-1", `"taskName":"a.b","pipelineRun":{"id":"bookinfo-forward-g2-0a1b2c3d"},"outcome":"failure","errors":"m"`},
		"Installed":       {"the first generation is the installation", heard(r, release("bookinfo-forward-g2-0a1b2c3d", 1)), []string{"service.deployed"}, "n/web", web},
		"Upgraded":        {"", heard(r, release("bookinfo-forward-g2-0a1b2c3d", 2)), []string{"service.upgraded"}, "n/web", web},
		"RolledBack":      {"the workflow that wrote it is a rollback", heard(r, release("bookinfo-rollback-g2-0a1b2c3d", 3)), []string{"service.rolledback"}, "n/web", web},
		"RolledBackAgain": {"", heard(r, release("bookinfo-rollback-g2-0a1b2c3d-1", 3)), []string{"service.rolledback"}, "n/web", web},
		"GroupRollback":   {"a group's name says nothing", heard(r, release("my-rollback-g2-forward-g2-0a1b2c3d", 3)), []string{"service.upgraded"}, "n/web", web},
		"Gone":            {"", heard(r, events.ReleaseDeleted{ReleaseRef: events.ReleaseRef{Namespace: "n", Name: "web"}}), []string{"service.removed"}, "n/web", `"environment":{"id":"book.info"}`},
		"Pushed":          {"a chart is an artifact", heard(events.Rollout{}, events.ChartPushed{Tenant: "t", Chart: "c", Version: "1.0.0", Digest: "sha256:01"}), []string{"artifact.published"}, "pkg:helm/t/c@1.0.0?checksum=sha256:01", ""},
		"NotOurs":         {"what Helm tries again is not an outcome", heard(r, events.ReleaseFailed{}), nil, "", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			mapped, err := cdevents.Of(c.fact)
			if err != nil {
				t.Fatal(err)
			}
			var types []string
			for _, e := range mapped {
				conforms(t, e)
				types = append(types, strings.TrimSuffix(strings.TrimPrefix(e.Type(), "dev.cdevents."), ".0.3.0"))
			}
			if diff := cmp.Diff(c.types, types); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", c.reason, diff)
			}
			if len(mapped) == 0 {
				return
			}
			if mapped[0].Subject() != c.subject || !bytes.Contains(mapped[0].Data(), []byte(c.says)) {
				t.Errorf("the subject is %q, want %q; the data, which should say %s:\n%s", mapped[0].Subject(), c.subject, c.says, mapped[0].Data())
			}
		})
	}
}

func TestSubject(t *testing.T) {
	f := heard(events.Rollout{Group: "book.info", UID: "u", Generation: 2}, events.GroupDeleted{})
	mapped, err := cdevents.Of(f)
	if err != nil || len(mapped) != 1 {
		t.Fatalf("Of() = %v, %v", mapped, err)
	}
	if got, want := cdevents.Subject(f, mapped[0]), "orkestra.cdevents.environment.deleted.book_info"; got != want {
		t.Errorf("Subject() = %q, want %q", got, want)
	}
}

func TestWhatWasNotHeardIsRefused(t *testing.T) {
	for name, edit := range map[string]func(*events.Fact){
		"NoSource":  func(f *events.Fact) { f.Source = "" },
		"NoTime":    func(f *events.Fact) { f.Time = time.Time{} },
		"NoCluster": func(f *events.Fact) { f.Source = "watcher" },
		"NoURI":     func(f *events.Fact) { f.Source = "orkestra://[" },
	} {
		f := heard(events.Rollout{Group: "g", UID: "u", Generation: 2}, events.GroupDeleted{})
		edit(&f)
		if mapped, err := cdevents.Of(f); err == nil {
			t.Errorf("%s: Of() = %v, want an error", name, mapped)
		}
	}
}
