package service

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"orkestra.dev/pkg/events/eventstest"
)

// Services that share a process share its end: who started it sees that something is wrong.
func TestAServiceThatFailsEndsTheProcess(t *testing.T) {
	nats := eventstest.Single(t)
	ended, broken := make(chan struct{}), errors.New("it is broken")
	part := func(name string, work func(context.Context) error) Service {
		return Service{Name: name, NoCluster: true, NoTopology: true, Setup: func(_ context.Context, e *Env) error { return e.Run(work) }}
	}
	cmd := Process{Name: "both", Services: []Service{
		part("steady", func(ctx context.Context) error {
			<-ctx.Done()
			close(ended)
			return nil
		}),
		part("fragile", func(context.Context) error { return broken }),
	}}.Command()
	cmd.SetArgs([]string{"--nats-url", nats.URL(), "--health-addr", "0", "--metrics-addr", "0"})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := cmd.ExecuteContext(ctx); !errors.Is(err, broken) || IsConfiguration(err) {
		t.Errorf("the process ends with %v, want %v", err, broken)
	}
	select {
	case <-ended:
	case <-ctx.Done():
		t.Error("the other service goes on")
	}
}

func TestFlagsThatSeveralHaveTellWhose(t *testing.T) {
	with := func(name string, flags ...string) Service {
		return Service{Name: name, AddFlags: func(fs *pflag.FlagSet) {
			for _, f := range flags {
				fs.Int(f, 1, "how many")
			}
		}}
	}
	flags := Process{Name: "both", Services: []Service{with("a", "workers", "depth"), with("b", "workers", "namespace")}}.Command().Flags()
	for _, name := range []string{"a-workers", "b-workers", "depth", "b-namespace", "namespace"} {
		if flags.Lookup(name) == nil {
			t.Errorf("there is no --%s", name)
		}
	}
	if f := flags.Lookup("depth"); f != nil && !strings.HasPrefix(f.Usage, "a: ") {
		t.Errorf("--depth does not say whose it is: %s", f.Usage)
	}
}
