package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
	"orkestra.dev/test/interop"
)

const limit = 3 * time.Minute

var root = filepath.Join("..", "..")

var clients = interop.Checkout(root)

// run runs a JavaScript program, and tells its exit code and what it said.
func run(t *testing.T, url, program string, args ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := clients.Install(ctx); err != nil {
		t.Fatal(err)
	}
	cmd := clients.Node(ctx, map[string]string{"NATS_URL": url, "NATS_CA": "", "NATS_NKEY": ""}, program, args...)
	raw, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("running %s: %v", program, err)
	}
	return cmd.ProcessState.ExitCode(), string(raw)
}

// examples are the events of the catalogue, by type.
func examples(t *testing.T) map[events.Type][]byte {
	t.Helper()
	all := map[events.Type][]byte{}
	for _, typ := range events.Types() {
		raw, err := os.ReadFile(filepath.Join(root, "docs", "events", "examples", string(typ)+".json"))
		if err != nil {
			t.Fatal(err)
		}
		all[typ] = raw
	}
	return all
}

// store puts events into the stream of a server of its own, as the services do.
func store(t *testing.T, stored map[events.Type][]byte) (url string) {
	t.Helper()
	url = eventstest.Single(t).URL()
	eventstest.Bus(t, url, "interop") // makes the stream
	connection, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	js, err := jetstream.New(connection)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range events.Types() {
		var e struct{ ID, Subject string }
		if err := json.Unmarshal(stored[typ], &e); err != nil {
			t.Fatal(err)
		}
		m := nats.NewMsg("orkestra.v1." + typ.Thing() + "." + events.SubjectToken(e.Subject))
		m.Header.Set("Content-Type", "application/cloudevents+json")
		m.Header.Set("Nats-Msg-Id", e.ID)
		m.Data = stored[typ]
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	return url
}

func consume(t *testing.T, url string, args ...string) (code int, out string) {
	t.Helper()
	return run(t, url, "consume.mjs", append([]string{"--schemas", filepath.Join(root, "pkg", "events", "schemas"), "--timeout", "30"}, args...)...)
}

func TestJavaScriptReadsEveryType(t *testing.T) {
	n := strconv.Itoa(len(events.Types()))
	code, out := consume(t, store(t, examples(t)), "--count", n)
	if code != 0 || !strings.Contains(out, n+" events, "+n+" valid") {
		t.Errorf("exit code %d, want 0 and %s valid events:\n%s", code, n, out)
	}
	for _, typ := range events.Types() {
		if !strings.Contains(out, "  "+typ.What()+" ") {
			t.Errorf("%s was not read:\n%s", typ, out)
		}
	}
}

// A group with a dot in its name has one subject too, and its own events only.
func TestJavaScriptReadsOneGroup(t *testing.T) {
	code, out := consume(t, store(t, examples(t)), "--group", "book.info", "--until", "rollout.failed")
	if code != 0 || strings.Contains(out, "webhook.received") || !strings.Contains(out, "rollout.failed") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestJavaScriptSeesWhatIsWrong(t *testing.T) {
	cases := map[events.Type]struct{ old, new, want string }{
		events.TypeNodeFailed:        {`"message"`, `"massage"`, "data must have required property 'message'"},
		events.TypeWorkflowSubmitted: {`"releases": 4`, `"releases": "4"`, "data/releases must be integer"},
		events.TypeGroupDeleted:      {"schemas/dev.orkestra.group.deleted.v1.json", "schemas/moon.json", "names a schema that is not there"},
		events.TypeGroupDesired:      {`"source": "orkestra://prod/intake",`, ``, "orkestra.v1.group.book_info: "},
	}
	all := examples(t)
	for typ, c := range cases {
		raw := bytes.Replace(all[typ], []byte(c.old), []byte(c.new), 1)
		if bytes.Equal(raw, all[typ]) {
			t.Fatalf("%s has no %s", typ, c.old)
		}
		all[typ] = raw
	}
	n := len(events.Types())
	code, out := consume(t, store(t, all), "--count", strconv.Itoa(n))
	if want := strconv.Itoa(n-len(cases)) + " valid"; code != 1 || !strings.Contains(out, want) {
		t.Errorf("exit code %d, want 1 and %q:\n%s", code, want, out)
	}
	for typ, c := range cases {
		if !strings.Contains(out, c.want) {
			t.Errorf("what is wrong with %s is not seen, want %q:\n%s", typ, c.want, out)
		}
	}
}

func TestJavaScriptDoesNotWaitForEver(t *testing.T) {
	code, out := consume(t, store(t, examples(t)), "--group", "nobody", "--until", "rollout.succeeded", "--timeout", "2")
	if code != 1 || !strings.Contains(out, "did not come within 2 s") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestTheCommandLineOfNATSReadsEveryType(t *testing.T) {
	stored := examples(t)
	url := store(t, stored)
	ctx, cancel := context.WithTimeout(t.Context(), 3*limit)
	defer cancel()
	var said bytes.Buffer
	cmd := clients.NATS(ctx, map[string]string{"NATS_URL": url, "NATS_CA": "", "NATS_NKEY": "", "XDG_CONFIG_HOME": t.TempDir()},
		"subscribe", "--stream", events.StreamEvents, "--all", "--raw", "--terminate-at-end", "orkestra.v1.>")
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, said.Bytes())
	}
	stream := json.NewDecoder(bytes.NewReader(out))
	for _, typ := range events.Types() {
		var got, want any
		if err := stream.Decode(&got); err != nil {
			t.Fatalf("reading %s: %v\n%s", typ, err, out)
		}
		if err := json.Unmarshal(stored[typ], &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-said +read):\n%s", typ, diff)
		}
	}
}

func TestAsyncAPIAcceptsItsDocument(t *testing.T) {
	document := filepath.Join(root, "docs", "events", "asyncapi.yaml")
	if code, out := run(t, "", "asyncapi.mjs", document); code != 0 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	raw, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new string }{
		"Structure": {"action: send", "action: shout"},
		"Reference": {`"#/components/messages/group.desired"`, `"#/components/messages/moon.risen"`},
	} {
		broken := filepath.Join(t.TempDir(), "asyncapi.yaml")
		changed := bytes.Replace(raw, []byte(c.old), []byte(c.new), 1)
		if bytes.Equal(changed, raw) {
			t.Fatalf("%s: the document has no %s", name, c.old)
		}
		if err := os.WriteFile(broken, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out := run(t, "", "asyncapi.mjs", broken); code != 1 {
			t.Errorf("%s: exit code %d, want 1: what is wrong is accepted:\n%s", name, code, out)
		}
	}
}
