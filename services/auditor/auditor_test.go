package auditor

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/auditor/record"
)

const (
	timeout = 20 * time.Second
	// asAuditor makes the test's binary the service.
	asAuditor = "ORKESTRA_AUDITOR_UNDER_TEST"
)

func TestMain(m *testing.M) {
	if os.Getenv(asAuditor) != "" {
		service.Main(New())
		return
	}
	os.Exit(m.Run())
}

// logs is a bytes.Buffer for many writers.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *logs) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func desired(group string, generation int) events.Fact {
	return events.New(events.Rollout{Group: group, UID: "uid-" + group, Generation: int64(generation)}, events.GroupDesired{})
}

// say says facts of generations from to to.
func say(t *testing.T, bus *events.Bus, from, to int) {
	t.Helper()
	for g := from; g <= to; g++ {
		if err := bus.Say(t.Context(), desired("shop", g)); err != nil {
			t.Fatal(err)
		}
	}
}

// small is a stream of which only the last messages are kept.
func small(messages int64) func(*events.Options) {
	return func(o *events.Options) { o.Topology.Streams[0].MaxMsgs = messages }
}

func newAuditor(t *testing.T, dir string, s stream, log *logs, edit ...func(*auditor)) *auditor {
	t.Helper()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	a := &auditor{
		stream: s, dir: dir, rotation: rotation{size: 64 << 20, age: time.Hour},
		log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), metrics: m, now: time.Now, progress: newProgress(),
	}
	for _, e := range edit {
		e(a)
	}
	return a
}

// start runs an auditor until stop, which gives its error.
func start(t *testing.T, a *auditor) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return stop
}

// trailOf reads and checks a folder.
func trailOf(t *testing.T, dir string) (all []record.Record, report record.Report) {
	t.Helper()
	v := record.Verifier{See: func(r record.Record) { all = append(all, r) }}
	if err := v.Folder(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return all, v.Report()
}

// recorded runs an auditor until there are n records.
func recorded(t *testing.T, a *auditor, n uint64) {
	t.Helper()
	stop := start(t, a)
	eventstest.Eventually(t, timeout, fmt.Sprintf("there are %d records", n), func() bool {
		head, _ := a.progress.get()
		return head.N >= n
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// told is what the records say, in a word each.
func told(all []record.Record) string {
	var out []string
	for _, r := range all {
		switch r.Kind {
		case record.KindGap:
			out = append(out, fmt.Sprintf("gap(%d..%d)", r.From, r.To))
		case record.KindStream:
			out = append(out, "stream")
		case record.KindEvent:
			out = append(out, fmt.Sprint(r.Sequence))
		}
	}
	return strings.Join(out, " ")
}

// segment is the only one of a folder.
func segment(t *testing.T, dir string) (name string, data []byte) {
	t.Helper()
	names, err := record.Segments(os.DirFS(dir))
	if err != nil || len(names) != 1 {
		t.Fatalf("segments %v, %v", names, err)
	}
	data, err = os.ReadFile(filepath.Join(dir, names[0]))
	if err != nil {
		t.Fatal(err)
	}
	return names[0], data
}

func TestARestartGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	dir := t.TempDir()
	say(t, bus, 1, 3)
	recorded(t, newAuditor(t, dir, bus, &logs{}), 4)
	say(t, bus, 4, 5)
	recorded(t, newAuditor(t, dir, bus, &logs{}, func(a *auditor) { a.rotation.size = 1 }), 6)
	say(t, bus, 6, 6)
	recorded(t, newAuditor(t, dir, bus, &logs{}, func(a *auditor) { a.now = func() time.Time { return time.Now().Add(2 * time.Hour) } }), 7)
	all, report := trailOf(t, dir)
	if got := told(all); got != "stream 1 2 3 4 5 6" || report.Segments != 4 {
		t.Errorf("got %q in %d segments, want one each by size, and one by age", got, report.Segments)
	}
	if !strings.Contains(string(all[6].Event), `"id":"group.desired/uid-shop/6/"`) {
		t.Errorf("the event is %s", all[6].Event)
	}
}

func TestATornLineIsWrittenAgain(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	say(t, bus, 1, 3)
	whole := t.TempDir()
	recorded(t, newAuditor(t, whole, bus, &logs{}), 4)
	name, want := segment(t, whole)
	// A death after any byte of the last line, and in the middle of the first one.
	last := bytes.LastIndexByte(want[:len(want)-1], '\n') + 1
	for _, length := range []int{0, 10, last + 1, last + (len(want)-last)/2, len(want) - 1} {
		dir := t.TempDir()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, want[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		recorded(t, newAuditor(t, dir, bus, &logs{}), 4)
		all, _ := trailOf(t, dir)
		if got := told(all); got != "stream 1 2 3" {
			t.Errorf("torn after %d bytes: got %q", length, got)
		}
		if got, err := os.ReadFile(file); length > last && (err != nil || !bytes.Equal(got, want)) {
			t.Errorf("torn after %d bytes: the same events give other bytes, %v", length, err)
		}
	}
}

func TestAnAlteredTrailIsNotContinued(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	say(t, bus, 1, 2)
	dir := t.TempDir()
	recorded(t, newAuditor(t, dir, bus, &logs{}), 3)
	name, data := segment(t, dir)
	if err := os.WriteFile(filepath.Join(dir, name), bytes.Replace(data, []byte("uid-shop"), []byte("uid-ship"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newAuditor(t, dir, bus, &logs{})
	if err := a.run(t.Context()); err == nil || !strings.Contains(err.Error(), name+", line 2: the record was altered") {
		t.Errorf("got %v", err)
	}
}

func TestOneAuditorToAFolder(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	dir := t.TempDir()
	first := newAuditor(t, dir, bus, &logs{})
	start(t, first)
	eventstest.Eventually(t, timeout, "the first one writes", func() bool { head, _ := first.progress.get(); return head.N > 0 })
	if err := newAuditor(t, dir, bus, &logs{}).run(t.Context()); err == nil || !strings.Contains(err.Error(), "another auditor") {
		t.Errorf("the second one: %v", err)
	}
}

func TestWhatTheStreamLostIsSaid(t *testing.T) {
	t.Parallel()
	servers := eventstest.Single(t)
	bus := eventstest.Bus(t, servers.URL(), "auditor", small(3))
	dir, log := t.TempDir(), &logs{}
	say(t, bus, 1, 2)
	recorded(t, newAuditor(t, dir, bus, log), 3)
	say(t, bus, 3, 9) // 7, 8 and 9 are left
	recorded(t, newAuditor(t, dir, bus, log), 7)
	all, report := trailOf(t, dir)
	if got := told(all); got != "stream 1 2 gap(3..6) 7 8 9" || report.Lost != 4 {
		t.Errorf("got %q, %+v", got, report)
	}
	if !strings.Contains(log.String(), "messages were lost") {
		t.Error("no log tells of the loss")
	}

	// Another server, empty or not, is another stream.
	other := eventstest.Bus(t, servers.Account(1), "auditor")
	say(t, other, 1, 1)
	recorded(t, newAuditor(t, dir, other, log), 9)
	all, report = trailOf(t, dir)
	if got := told(all[7:]); got != "stream 1" || report.Streams != 2 || !strings.Contains(all[7].Reason, "made anew") {
		t.Errorf("got %q (%s), %d streams", got, all[7].Reason, report.Streams)
	}
}

func TestAServerThatIsAwayIsWaitedFor(t *testing.T) {
	t.Parallel()
	servers := eventstest.Single(t)
	bus := eventstest.Bus(t, servers.URL(), "auditor")
	dir := t.TempDir()
	say(t, bus, 1, 2)
	servers.Stop(0)
	a := newAuditor(t, dir, bus, &logs{})
	stop := start(t, a)
	servers.Start(0)
	say(t, bus, 3, 3)
	wait := func(n uint64) {
		t.Helper()
		eventstest.Eventually(t, timeout, fmt.Sprintf("there are %d records", n), func() bool { head, _ := a.progress.get(); return head.N >= n })
	}
	wait(4)
	servers.Restart(0)
	say(t, bus, 4, 4)
	wait(5)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	all, _ := trailOf(t, dir)
	if got := told(all); got != "stream 1 2 3 4" {
		t.Errorf("got %q", got)
	}
}

func TestADiskThatRefusesIsWaitedFor(t *testing.T) {
	t.Parallel()
	bus := eventstest.Bus(t, eventstest.Single(t).URL(), "auditor")
	dir := t.TempDir()
	say(t, bus, 1, 3)
	failing := true
	a := newAuditor(t, dir, bus, &logs{})
	// The file is taken away under the trail, once, between two records.
	a.now = func() time.Time {
		if a.trail != nil && a.trail.head.N == 3 && failing {
			failing = false
			if err := a.trail.file.Close(); err != nil {
				t.Error(err)
			}
		}
		return time.Now()
	}
	recorded(t, a, 4)
	all, _ := trailOf(t, dir)
	if got := told(all); got != "stream 1 2 3" || failing {
		t.Errorf("got %q, failed: %t", got, !failing)
	}
}

func TestKilledAtAnyTime(t *testing.T) {
	t.Parallel()
	url := eventstest.Single(t).URL()
	bus := eventstest.Bus(t, url, "auditor")
	dir, log := t.TempDir(), &logs{}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const total, kills = 300, 4
	spawn := func() *exec.Cmd {
		cmd := exec.Command(program, "--dir", dir, "--nats-url", url, "--health-addr", "0", "--metrics-addr", "0", "--segment-size", "20000")
		cmd.Env = append(os.Environ(), asAuditor+"=1")
		cmd.Stderr = log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	lines := func() (n int) {
		names, err := record.Segments(os.DirFS(dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			n += bytes.Count(data, []byte("\n"))
		}
		return n
	}
	for round := range kills {
		cmd := spawn()
		before := lines()
		say(t, bus, round*total/kills+1, (round+1)*total/kills)
		eventstest.Eventually(t, timeout, "it writes", func() bool { return lines() > before })
		if err := cmd.Process.Kill(); err != nil { // at whatever it is
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("what was killed ended well")
		}
	}
	cmd := spawn()
	eventstest.Eventually(t, timeout, "all is written", func() bool { return lines() > total })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("an orderly end: %v\n%s", err, log)
	}
	_, report := trailOf(t, dir)
	if report.Events != total || report.Gaps != 0 || report.Streams != 1 || report.Segments < 5 {
		t.Errorf("after %d kills: %+v, want each of %d events once\n%s", kills, report, total, log)
	}
}

func TestBadConfigurationNamesTheFlag(t *testing.T) {
	const canary = "c4n4ry"
	for flag, args := range map[string][]string{
		"--dir":                  {},
		"--segment-size":         {"--dir", "d", "--segment-size", "0"},
		"--segment-age":          {"--dir", "d", "--segment-age", "0s"},
		"--log-level":            {"--dir", "d", "--log-level", "loud"},
		"--log-format":           {"--dir", "d", "--log-format", "xml"},
		"--health-addr":          {"--dir", "d", "--health-addr", "nowhere"},
		"--http-sink A":          {"--dir", "d", "--http-sink", "A=ftp://x/" + canary},
		"--http-sink a":          {"--dir", "d", "--http-sink", "a=https://me:" + canary + "@x/"},
		"--http-sink b":          {"--dir", "d", "--http-sink", "b=ftp://x?token=" + canary},
		"--http-sink-token-file": {"--dir", "d", "--http-sink-token-file", "b=file"},
		"--http-sink cdevents":   {"--dir", "d", "--cdevents", "--http-sink", "cdevents=https://x/"},
		"--s3-sink a":            {"--dir", "d", "--s3-sink", "a=https://me:" + canary + "@x/bucket"},
		"--s3-sink b":            {"--dir", "d", "--s3-sink", "b=https://x/?token=" + canary},
		"--s3-sink c":            {"--dir", "d", "--http-sink", "c=https://x/", "--s3-sink", "c=https://x/bucket"},
		"--s3-linger":            {"--dir", "d", "--s3-linger", "-1s"},
		"--s3-sink-credentials":  {"--dir", "d", "--s3-sink-credentials-file", "b=file"},
	} {
		cmd := New().Command()
		cmd.SetArgs(args)
		err := cmd.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(flag, " A")) {
			t.Errorf("%v: want a refusal that names %s, got %v", args, flag, err)
		}
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%v: the canary is in %v", args, err)
		}
	}
}
