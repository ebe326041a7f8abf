package events_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

// TestPermissions proves what deploy/nats/README.md says that a service needs
// once the streams are there.
func TestPermissions(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join("..", "..", "deploy", "nats", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(readme), "```hocon\n")
	block, _, ok := strings.Cut(block, "```")
	if !ok {
		t.Fatal("the README has no permissions")
	}
	config := filepath.Join(t.TempDir(), "nats.conf")
	content := fmt.Sprintf("listen: 127.0.0.1:-1\njetstream { store_dir: %q }\n"+
		"accounts { A { jetstream: enabled, users: [ { user: admin, password: p }, { user: stager, password: p, %s } ] } }\n",
		t.TempDir(), block)
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	options.NoLog, options.NoSigs = true, true
	srv, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	go srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(timeout) {
		t.Fatal("the server is not ready")
	}
	url := func(user string) string { return fmt.Sprintf("nats://%s:p@%s", user, srv.Addr()) }
	_ = eventstest.Bus(t, url("admin"), "admin")

	e := &env{logs: &buffer{}}
	b := eventstest.Bus(t, url("stager"), "stager", func(o *events.Options) { // ensures what is there
		o.Logger = e.logger()
		o.MaxAttempts = 2
	})
	say(t, b, desired("good", 1), desired("waits", 1), desired("bad", 1))
	var seen calls
	consume(t, b, "stager", 2, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		seen.add(f)
		switch f.Rollout.Group {
		case "bad":
			return nil, events.Terminal("Bad", nil)
		case "waits":
			if f.Attempt < 4 {
				return nil, events.RetryAfter(time.Millisecond, nil)
			}
		}
		return []events.Fact{staged(f.Rollout)}, nil
	})
	l := oneLetter(t, eventstest.Bus(t, url("admin"), "cli"))
	if l.Reason != "Bad" {
		t.Errorf("the letter is %+v", l)
	}
	seen.await(t, 6)
	if err := b.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
	if strings.Contains(e.logs.String(), "ermissions") {
		t.Errorf("something is forbidden:\n%s", e.logs)
	}
}
