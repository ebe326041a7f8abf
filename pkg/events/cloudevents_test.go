package events

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func sample() Fact {
	f := New(Rollout{Group: "a.b", UID: "u", Generation: 2, RequestedAt: "now"}, RolloutFailed{
		WorkflowRef: WorkflowRef{Workflow: "w", WorkflowUID: "wu", WorkflowType: WorkflowForward},
		Reason:      "Failed", Message: "because of <this> & \"that\" ☃",
	})
	f.Time = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	f.CausationID, f.TraceParent = "charts.staged/u/2/now", parent
	return f
}

func heard(f Fact, source string) Fact {
	f.ID, f.Source = f.contentID(), source
	return f
}

func TestStructuredMode(t *testing.T) {
	said := sample()
	raw, err := encode(said, "orkestra://c/watcher")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"specversion": "1.0", "id": "rollout.failed/u/2/now/forward/w", "source": "orkestra://c/watcher",
		"type": "dev.orkestra.rollout.failed.v1", "subject": "a.b", "time": "2026-01-02T03:04:05.000000006Z",
		"datacontenttype": "application/json", "dataschema": "https://orkestra.dev/schemas/dev.orkestra.rollout.failed.v1.json",
		"partitionkey": "u", "correlationid": "u/2/now", "causationid": "charts.staged/u/2/now", "traceparent": parent,
		"data": map[string]any{
			"rollout":  map[string]any{"group": "a.b", "uid": "u", "generation": 2., "requestedAt": "now"},
			"workflow": "w", "workflowUID": "wu", "workflowType": "forward", "reason": "Failed",
			"message": "because of <this> & \"that\" ☃",
		},
	}
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the event (-want +got):\n%s", diff)
	}
	for name, h := range map[string]nats.Header{
		"ContentType":   {"Content-Type": {"application/cloudevents+json; charset=utf-8"}},
		"OtherCase":     {"content-type": {"application/cloudevents+json"}},
		"NoContentType": nil, // the binding 1.0.2 knows no headers
	} {
		t.Run(name, func(t *testing.T) {
			f, err := decode("orkestra.v1.rollout.a_b", h, raw)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(heard(said, "orkestra://c/watcher"), f); diff != "" {
				t.Errorf("what was heard (-said +heard):\n%s", diff)
			}
		})
	}
}

func TestBinaryMode(t *testing.T) {
	said := sample()
	data, err := encodeData(said)
	if err != nil {
		t.Fatal(err)
	}
	h := nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {"rollout.failed%2Fu%2F2%2Fnow%2Fforward%2Fw"}, "Ce-Source": {"orkestra://c/watcher"},
		"ce-type": {"dev.orkestra.rollout.failed.v1"}, "ce-time": {"2026-01-02T03:04:05.000000006Z"},
		"ce-causationid": {"charts.staged/u/2/now"}, "ce-traceparent": {parent}, "ce-datacontenttype": {"application/json"},
	}
	f, err := decode("orkestra.v1.rollout.a_b", h, data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(heard(said, "orkestra://c/watcher"), f); diff != "" {
		t.Errorf("what was heard (-said +heard):\n%s", diff)
	}
}

func TestNotHeard(t *testing.T) {
	edit := func(old, replacement string) string {
		raw, err := encode(sample(), "orkestra://c/watcher")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(raw), old) {
			t.Fatalf("%s does not contain %s", raw, old)
		}
		return strings.Replace(string(raw), old, replacement, 1)
	}
	const subject = "orkestra.v1.rollout.a_b"
	cases := map[string]struct {
		subject, data string
		header        nats.Header
		want          string
	}{
		"Garbage":         {subject, "\x00\xff", nil, ReasonNotACloudEvent},
		"Empty":           {subject, "", nil, ReasonNotACloudEvent},
		"OtherJSON":       {subject, `{"hello":"world"}`, nil, ReasonNotACloudEvent},
		"NoSource":        {subject, edit(`"source":"orkestra://c/watcher",`, ""), nil, ReasonNotACloudEvent},
		"Batch":           {subject, "[]", nats.Header{"Content-Type": {"application/cloudevents-batch+json"}}, ReasonNotACloudEvent},
		"BinaryVersion":   {subject, "{}", nats.Header{"ce-specversion": {"0.3"}}, ReasonNotACloudEvent},
		"BinaryEscape":    {subject, "{}", nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"%zz"}}, ReasonNotACloudEvent},
		"BinaryExtension": {subject, "{}", nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-type": {"t"}, "ce-source": {"s"}, "ce-not_a_name": {"x"}}, ReasonNotACloudEvent},
		"UnknownType":     {subject, edit("rollout.failed.v1", "rollout.paused.v9"), nil, ReasonUnknownType},
		"WrongField":      {subject, edit(`"reason":"Failed"`, `"reason":{}`), nil, ReasonBadPayload},
		"NotJSON":         {subject, "<x/>", nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-type": {"t"}, "ce-source": {"s"}, "ce-datacontenttype": {"text/xml"}}, ReasonBadPayload},
		"NoRollout":       {subject, edit(`"rollout":{`, `"roll":{`), nil, ReasonBadPayload},
		"NoGeneration":    {subject, edit(`"generation":2`, `"generation":0`), nil, ReasonBadPayload},
		"WildcardGroup":   {"orkestra.v1.rollout.*", edit(`"group":"a.b"`, `"group":"*"`), nil, ReasonBadPayload},
		"AnotherGroup":    {"orkestra.v1.rollout.mine", edit("", ""), nil, ReasonSubjectMismatch},
		"AnotherThing":    {"orkestra.v1.group.a_b", edit("", ""), nil, ReasonSubjectMismatch},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := decode(c.subject, c.header, []byte(c.data))
			if got := TerminalReason(err); got != c.want {
				t.Errorf("decode() says %q (%v), want %q", got, err, c.want)
			}
		})
	}
}

func TestWhatCannotBeSaid(t *testing.T) {
	ok := Rollout{Group: "g", UID: "u", Generation: 1}
	for name, f := range map[string]Fact{
		"NoData":       {Rollout: ok},
		"NoRollout":    {Data: GroupDesired{}},
		"NoGeneration": New(Rollout{Group: "g", UID: "u"}, GroupDesired{}),
		"Wildcard":     New(Rollout{Group: ">", UID: "u", Generation: 1}, GroupDesired{}),
	} {
		if _, err := encode(f, "orkestra://c/s"); err == nil {
			t.Errorf("%s: a fact that nobody could hear was encoded", name)
		}
	}
}

func TestTolerance(t *testing.T) {
	raw, err := encode(sample(), "orkestra://c/watcher")
	if err != nil {
		t.Fatal(err)
	}
	later := strings.Replace(string(raw), `"reason":`, `"somethingNew":[1],"reason":`, 1)
	later = strings.Replace(later, parent, "not a traceparent", 1)
	f, err := decode("orkestra.v1.rollout.a_b", nil, []byte(later))
	if err != nil {
		t.Fatalf("an event of a later version is refused: %v", err)
	}
	if f.TraceParent != "" {
		t.Errorf("a broken traceparent is handed on: %q", f.TraceParent)
	}
	if _, ok := f.Data.(RolloutFailed); !ok {
		t.Errorf("the data is a %T, want a value of the payload", f.Data)
	}
}
