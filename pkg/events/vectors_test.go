package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

// vector is an event as the conformance project writes it.
type vector struct {
	Mode       string
	Attributes attributes `yaml:"ContextAttributes"`
	Data       string     `yaml:"Data"`
}

type attributes struct {
	SpecVersion     string            `yaml:"specversion"`
	Type            string            `yaml:"type"`
	ID              string            `yaml:"id"`
	Source          string            `yaml:"source"`
	Time            string            `yaml:"time"`
	DataContentType string            `yaml:"datacontenttype"`
	Extensions      map[string]string `yaml:"Extensions"`
}

// vectors are those that the conformance project publishes for version 1.0.
func vectors(t *testing.T) []vector {
	t.Helper()
	var all []vector
	for _, name := range []string{"v1.yaml", "v1_minimum.yaml"} {
		raw, err := os.ReadFile("testdata/cloudevents/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for d := yaml.NewDecoder(bytes.NewReader(raw)); ; {
			var v vector
			err := d.Decode(&v)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			all = append(all, v)
		}
	}
	if len(all) != 8 {
		t.Fatalf("there are %d vectors, want 8", len(all))
	}
	return all
}

// values are a vector's attributes by name.
func (v vector) values() map[string]string {
	all := map[string]string{
		"specversion": v.Attributes.SpecVersion, "type": v.Attributes.Type, "id": v.Attributes.ID, "source": v.Attributes.Source,
		"time": v.Attributes.Time, "datacontenttype": v.Attributes.DataContentType,
	}
	maps.Copy(all, v.Attributes.Extensions)
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}

// binary is the vector as the NATS binding has it in binary mode.
func (v vector) binary() (nats.Header, []byte) {
	h := nats.Header{}
	for name, value := range v.values() {
		h["ce-"+name] = []string{percentEncoded(value)}
	}
	return h, []byte(v.Data)
}

// structured is the vector in the JSON format: JSON as it is, other text as a string.
func (v vector) structured(t *testing.T) (nats.Header, []byte) {
	t.Helper()
	body := map[string]any{}
	for name, value := range v.values() {
		body[name] = value
	}
	body["data"] = v.Data
	if v.isJSON() {
		body["data"] = json.RawMessage(v.Data)
	}
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return nats.Header{"Content-Type": {contentTypeStructured}}, raw
}

func (v vector) isJSON() bool {
	return v.Attributes.DataContentType == "" || strings.HasPrefix(v.Attributes.DataContentType, "application/json")
}

// percentEncoded is section 3.1.3.2 of the NATS binding.
func percentEncoded(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c == '"' || c == '%' || c > '~' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func TestConformanceVectors(t *testing.T) {
	for i, v := range vectors(t) {
		t.Run(fmt.Sprint(i, " ", v.Attributes.ID), func(t *testing.T) {
			h, data := v.binary()
			v.check(t, "binary", h, data)
			h, data = v.structured(t)
			v.check(t, "structured", h, data)
		})
	}
}

func (v vector) check(t *testing.T, mode string, h nats.Header, data []byte) {
	t.Helper()
	e, err := decodeEvent(h, data)
	if err == nil {
		err = e.Validate()
	}
	if err != nil {
		t.Fatalf("%s: %v", mode, err)
	}
	got := map[string]string{
		"specversion": e.SpecVersion(), "type": e.Type(), "id": e.ID(), "source": e.Source(), "datacontenttype": e.DataContentType(),
	}
	if !e.Time().IsZero() {
		got["time"] = e.Time().Format(time.RFC3339)
	}
	for name := range e.Extensions() {
		got[name] = extension(e, name)
	}
	maps.DeleteFunc(got, func(_, value string) bool { return value == "" })
	if diff := cmp.Diff(v.values(), got); diff != "" {
		t.Errorf("%s: the attributes (-sent +read):\n%s", mode, diff)
	}
	want, is := v.Data, string(e.Data())
	if v.isJSON() {
		want, is = compact(t, want), compact(t, is)
	}
	if want != is {
		t.Errorf("%s: the data is %q, want %q", mode, is, want)
	}
	// It is an event, and not one of ours: that is told apart.
	if _, err := decode("orkestra.v1.group.g", h, data); v.isJSON() && TerminalReason(err) != ReasonUnknownType {
		t.Errorf("%s: decode() = %v, want %s", mode, err, ReasonUnknownType)
	}
}

func compact(t *testing.T, raw string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(raw)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHeaderValues(t *testing.T) {
	cases := map[string]struct{ raw, want string }{
		"AsInTheBinding":    {"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"},
		"LowerCase":         {"Euro%20%e2%82%ac", "Euro €"},
		"Unnecessary":       {"%41%2F%42", "A/B"},
		"Once":              {"100%2525", "100%25"},
		"Quoted":            {`"Euro %E2%82%AC"`, "Euro €"},
		"QuotedQuote":       {`"say \"hello\" \\ %22"`, `say "hello" \ "`},
		"Plus":              {"1.0.0+a", "1.0.0+a"},
		"OneQuote":          {`"`, `"`},
		"OverlongRefused":   {"%C0%A0", ""},
		"SurrogateRefused":  {"%ED%A0%80", ""},
		"HalfRefused":       {"a%2", ""},
		"NotHexRefused":     {"a%zz", ""},
		"RawNonUTF8Refused": {"\xff", ""},
	}
	for name, c := range cases {
		got, err := headerValue(c.raw)
		if strings.HasSuffix(name, "Refused") != (err != nil) || got != c.want {
			t.Errorf("%s: headerValue(%q) = %q, %v, want %q", name, c.raw, got, err, c.want)
		}
		if err == nil && name == "AsInTheBinding" && percentEncoded(got) != c.raw {
			t.Errorf("percentEncoded(%q) = %q, want %q", got, percentEncoded(got), c.raw)
		}
	}
}

// What we say is what the CloudEvents project calls an event, and is heard as it was said,
// in both modes.
func TestWhatIsSaidConforms(t *testing.T) {
	raw, err := os.ReadFile("testdata/cloudevents/cloudevents.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.AssertContent()
	if err := c.AddResource("cloudevents.json", doc); err != nil {
		t.Fatal(err)
	}
	official, err := c.Compile("cloudevents.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range Types() {
		t.Run(typ.What(), func(t *testing.T) {
			said, err := os.ReadFile("../../docs/events/examples/" + string(typ) + ".json")
			if err != nil {
				t.Fatal(err)
			}
			body, err := jsonschema.UnmarshalJSON(bytes.NewReader(said))
			if err != nil {
				t.Fatal(err)
			}
			if err := official.Validate(body); err != nil {
				t.Error(err)
			}
			var e event.Event
			if err := json.Unmarshal(said, &e); err != nil {
				t.Fatal(err)
			}
			h := nats.Header{"ce-specversion": {e.SpecVersion()}, "ce-time": {e.Time().Format(time.RFC3339Nano)}}
			for name, value := range map[string]string{"id": e.ID(), "type": e.Type(), "source": e.Source(), "subject": e.Subject(), "datacontenttype": e.DataContentType(), "dataschema": e.DataSchema()} {
				h["ce-"+name] = []string{percentEncoded(value)}
			}
			for name := range e.Extensions() {
				h["ce-"+name] = []string{percentEncoded(extension(e, name))}
			}
			subject := subjectPrefix + typ.Thing() + "." + SubjectToken(e.Subject())
			structured, err := decode(subject, nil, said)
			if err != nil {
				t.Fatal(err)
			}
			binary, err := decode(subject, h, e.Data())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(structured, binary); diff != "" {
				t.Errorf("the modes differ (-structured +binary):\n%s", diff)
			}
			again, err := Encode(structured, structured.Source)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := compact(t, string(again)), compact(t, string(said)); !cmp.Equal(asMap(t, got), asMap(t, want)) {
				t.Errorf("what was heard is said as\n%s\nand was\n%s", got, want)
			}
		})
	}
}

func asMap(t *testing.T, raw string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		t.Fatal(err)
	}
	return m
}
