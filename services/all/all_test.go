package all

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service"
)

func opened(t *testing.T, o options) *bus {
	t.Helper()
	b, err := open(o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func closed(t *testing.T, b *bus) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// connected is a bus as a service has it.
func connected(t *testing.T, b *bus, identity string) *events.Bus {
	t.Helper()
	o := events.Options{Source: "orkestra://test/" + identity, InboxPrefix: events.InboxOf(identity), SayTimeout: 2 * time.Second}
	b.Reach(identity, &o)
	bus, err := events.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return bus
}

func disconnected(t *testing.T, bus *events.Bus) {
	t.Helper()
	if err := bus.Close(); err != nil {
		t.Error(err)
	}
}

func desired(generation int64) events.Fact {
	return events.New(events.Rollout{Group: "g", UID: "u", Generation: generation}, events.GroupDesired{})
}

// What was said outlives the process, nothing listens unless asked, and one service cannot
// speak for another even here.
func TestTheBusKeepsWhatWasSaid(t *testing.T) {
	o := options{dataDir: filepath.Join(t.TempDir(), "data"), syncAlways: true}
	b := opened(t, o)
	if addr := b.server.Addr(); addr != nil {
		t.Errorf("it listens on %s", addr)
	}
	topology, intake, watcher := connected(t, b, events.IdentityTopology), connected(t, b, "intake"), connected(t, b, "watcher")
	if err := topology.EnsureTopology(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := intake.Say(t.Context(), desired(1)); err != nil {
		t.Fatal(err)
	}
	if err := watcher.Say(t.Context(), desired(2)); err == nil {
		t.Error("the watcher may say what groups are to be")
	}
	for _, bus := range []*events.Bus{topology, intake, watcher} {
		disconnected(t, bus)
	}
	closed(t, b)

	o.natsAddr = "127.0.0.1:-1" // any
	again := opened(t, o)
	defer closed(t, again)
	reader, err := events.Connect(t.Context(), events.Options{
		Source: "orkestra://test/reader", URL: again.server.ClientURL(), NKeyFile: again.key(events.IdentityReader),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer disconnected(t, reader)
	var heard []events.Fact
	if err := reader.Follow(t.Context(), events.FollowOptions{}, func(f events.Fact, _ []byte) error {
		heard = append(heard, f)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(heard) != 1 || heard[0].EventID() != desired(1).EventID() {
		t.Errorf("after a restart the stream holds %v", heard)
	}
	seeds, err := filepath.Glob(filepath.Join(o.dataDir, "nkeys", "*"))
	if err != nil || len(seeds) != len(events.Identities()) {
		t.Fatalf("the keys are %v, %v", seeds, err)
	}
	for _, file := range seeds {
		if info, err := os.Stat(file); err != nil || info.Mode() != fs.FileMode(0o600) {
			t.Errorf("%s: %v, %v: want that only its user may read it", file, info.Mode(), err)
		}
	}
}

// Two servers on the same files would ruin them.
func TestOneProcessHasTheFolder(t *testing.T) {
	o := options{dataDir: t.TempDir()}
	b := opened(t, o)
	if second, err := open(o, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("a second process: %v, %v", second, err)
	}
	closed(t, b)
	closed(t, opened(t, o))
}

// A server that has stopped storing is an end, so that somebody starts the process again.
func TestAServerThatStopsIsAnEnd(t *testing.T) {
	b := opened(t, options{dataDir: t.TempDir()})
	defer closed(t, b)
	if err := b.server.DisableJetStream(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*lookInterval)
	defer cancel()
	if err := b.Run(ctx); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("want an end that names --data-dir, got %v", err)
	}
}

// Each flag of a service is there, with its default, under a name of its own; what several
// have tells whose it is.
func TestFlags(t *testing.T) {
	p := New()
	flags := p.Command().Flags()
	for name, want := range map[string]string{
		"intake-workers": "4", "stager-workers": "4", "compiler-workers": "4", "executor-workers": "16", "watcher-workers": "8",
		"audit-dir": "", "resync": "10s", "audit": "true", "sync-always": "true", "nats-addr": "",
	} {
		if f := flags.Lookup(name); f == nil || f.DefValue != want {
			t.Errorf("--%s: %+v, want the default %q", name, f, want)
		}
	}
	for _, gone := range []string{"workers", "dir", "nats-url", "nats-topology"} {
		if flags.Lookup(gone) != nil {
			t.Errorf("there is a flag --%s", gone)
		}
	}
	for _, s := range p.Services {
		own := pflag.NewFlagSet(s.Name, pflag.ContinueOnError)
		if s.AddFlags != nil {
			s.AddFlags(own)
		}
		own.VisitAll(func(f *pflag.Flag) {
			if flags.Lookup(f.Name) == nil && flags.Lookup(s.Name+"-"+f.Name) == nil {
				t.Errorf("--%s of %s is missing", f.Name, s.Name)
			}
		})
	}
}

func TestBadConfigurationNamesTheFlag(t *testing.T) {
	museum := []string{"--chartmuseum-url", "http://127.0.0.1:1", "--artifact-url", "http://127.0.0.1:2"}
	for want, args := range map[string][]string{
		"--nats-addr":       append(museum, "--nats-addr", "0.0.0.0:4222"),
		"--data-dir":        append(museum, "--data-dir", ""),
		"stager: --workers": append(museum, "--stager-workers", "0"),
		"--chartmuseum-url": nil,
		"--log-level":       append(museum, "--log-level", "loud"),
	} {
		cmd := New().Command()
		cmd.SetArgs(args)
		err := cmd.ExecuteContext(t.Context())
		if !service.IsConfiguration(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want a refusal that names %s, got %v", args, want, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(options{dataDir: file}, slog.New(slog.DiscardHandler)); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("a file for --data-dir: %v", err)
	}
}
