// Package all is Orkestra in one process, for the edge and for clusters of one node: the
// services as they are, and a JetStream server of its own between them. It has no core:
// what it does is what they do.
package all

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"

	"github.com/spf13/pflag"

	"orkestra.dev/pkg/service"
	"orkestra.dev/services/auditor"
	"orkestra.dev/services/compiler"
	"orkestra.dev/services/executor"
	"orkestra.dev/services/intake"
	"orkestra.dev/services/stager"
	"orkestra.dev/services/watcher"
)

// options are the flags that the process has beside those of its services.
type options struct {
	dataDir    string
	syncAlways bool
	natsAddr   string
	audit      bool
}

// New is the process.
func New() service.Process {
	var o options
	trail := auditor.New()
	return service.Process{
		Name:  "all",
		Short: "Run all services in one process, with JetStream in it",
		Long: `All runs intake, stager, compiler, executor, watcher and auditor in one process, for
the edge and for clusters of one node. What they say to each other goes through a JetStream
server in the same process, which keeps it in --data-dir and has no open port: it is reached
by memory. The services are the same as those that run on their own, and each may say and
hear what it may there. When one fails the process ends, so that whoever started it starts
it again; what was under way goes on.

One process has a --data-dir at a time, so in a cluster it is a Deployment with one replica and
the strategy Recreate. Without the data nothing that is deployed is lost, only history.

Orkestra still needs a ChartMuseum (--chartmuseum-url), Argo's workflow controller, and Flux'
helm-controller, which fetches charts from here (--artifact-url), with the kinds of
source-controller. A flag that several services have begins with the name of one: --stager-workers.

For "orkestra events", "orkestra trace" and "orkestra dlq" give a --nats-addr on loopback, and
connect with NATS_URL=nats://127.0.0.1:4222 and NATS_NKEY=<data-dir>/nkeys/operator.nk.`,
		Example: `# Against the cluster of the kubeconfig, with a ChartMuseum on this machine
orkestra serve --all --data-dir /var/lib/orkestra --chartmuseum-url http://127.0.0.1:8088 --artifact-url http://127.0.0.1:9790 --allow-private-registries

# Where the events may be read on this machine, and webhooks of registries are taken
orkestra serve --all --chartmuseum-url http://chartmuseum:8080 --artifact-url http://orkestra --nats-addr 127.0.0.1:4222 --receiver-addr :9292

# On flash that wears out: a power cut may take the last seconds of history
orkestra serve --all --chartmuseum-url http://chartmuseum:8080 --artifact-url http://orkestra --sync-always=false`,
		Services: []service.Service{
			service.Topology(), intake.New(), stager.New(), compiler.New(), executor.New(), watcher.New(), o.keepIn(trail),
		},
		Runs:     func(name string) bool { return name != trail.Name || o.audit },
		AddFlags: o.addFlags,
		Validate: o.validate,
		Host:     func(_ context.Context, log *slog.Logger) (service.Host, error) { return open(o, log) },
	}
}

func (o *options) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.dataDir, "data-dir", "/var/lib/orkestra", "folder of what the services say to each other, on a disk that outlives the process")
	fs.BoolVar(&o.syncAlways, "sync-always", true, "have each event on the disk before it is acknowledged; without it a power cut may take the last ones")
	fs.StringVar(&o.natsAddr, "nats-addr", "", "address on loopback at which the operator and the reader may connect to NATS, such as 127.0.0.1:4222; empty: there is none")
	fs.BoolVar(&o.audit, "audit", true, "run the auditor")
}

func (o *options) validate() error {
	var errs []error
	if o.dataDir == "" {
		errs = append(errs, errors.New("--data-dir: say in which folder the events are kept"))
	}
	if o.natsAddr != "" {
		addr, err := net.ResolveTCPAddr("tcp", o.natsAddr)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("--nats-addr %q: want host:port", o.natsAddr))
		case !addr.IP.IsLoopback():
			errs = append(errs, fmt.Errorf("--nats-addr %q: want an address on loopback, such as 127.0.0.1:4222: it has no TLS", o.natsAddr))
		}
	}
	return errors.Join(errs...)
}

// keepIn puts the auditor's trail into --data-dir unless a flag says another folder.
func (o *options) keepIn(trail service.Service) service.Service {
	own, validate := trail.AddFlags, trail.Validate
	var dir *pflag.Flag
	trail.AddFlags = func(fs *pflag.FlagSet) {
		flags := pflag.NewFlagSet(trail.Name, pflag.ContinueOnError)
		own(flags)
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Name == "dir" {
				dir = f
				f.Name, f.Usage = "audit-dir", "folder of the trail (default: audit in --data-dir)"
			}
			fs.AddFlag(f)
		})
	}
	trail.Validate = func() error {
		if dir.Value.String() == "" {
			if err := dir.Value.Set(filepath.Join(o.dataDir, "audit")); err != nil {
				return fmt.Errorf("--audit-dir: %w", err)
			}
		}
		return validate()
	}
	return trail
}
