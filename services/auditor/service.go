package auditor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"orkestra.dev/pkg/events"
)

const (
	serviceName = "auditor"
	// shutdownTimeout of the servers of probes and metrics.
	shutdownTimeout = 2 * time.Second
)

// Main runs the service's command and ends the process: 0 after an orderly stop, 2
// on a bad configuration, 1 on any other failure.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := Command(os.Stderr).ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "orkestra-%s: %v\n", serviceName, err)
	if _, bad := errors.AsType[*configError](err); bad {
		os.Exit(2)
	}
	os.Exit(1)
}

// Command is the service's command line; its log goes to w.
func Command(w io.Writer) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "orkestra-" + serviceName,
		Short: "Keeps all that the services say in files that show what was altered",
		Long: `The auditor reads all that is said on the stream of events, in order, and writes it
to JSON Lines files in which each record has the hash of the one before. What the
stream has lost is a record too. "orkestra audit verify" checks the files. Each sink
gets the same records as CloudEvents over HTTP, at its own pace.

One auditor writes to a folder at a time. It needs no Kubernetes, and reads only.

Every flag can be given in the environment: ORKESTRA_ and its name in capitals,
with "_" for "-" (ORKESTRA_NATS_URL for --nats-url). A flag on the command line
comes first. NATS_URL is read where nothing else is given.`,
		Example: `  orkestra-auditor --dir /var/lib/orkestra/audit --nats-url nats://nats:4222 \
    --http-sink siem=https://siem.example/events --http-sink-token-file siem=/etc/siem/token`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags(), os.LookupEnv); err != nil {
				return &configError{err}
			}
			if err := o.validate(); err != nil {
				return &configError{err}
			}
			return o.run(cmd.Context(), w)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &configError{err} })
	o.addFlags(cmd.Flags())
	return cmd
}

func (o *options) run(ctx context.Context, w io.Writer) (err error) {
	log, err := o.logger(w)
	if err != nil {
		return &configError{err}
	}
	log = log.With("service", serviceName)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m, err := newMetrics(registry)
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	o.nats.Name, o.nats.Source = "orkestra-"+serviceName, "orkestra://"+o.clusterName+"/"+serviceName
	o.nats.Logger, o.nats.Registerer = log, registry
	bus, err := events.Connect(ctx, o.nats)
	if err != nil {
		return &configError{fmt.Errorf("using NATS: %w", err)}
	}
	defer func() { err = errors.Join(err, bus.Close()) }()

	a := &auditor{
		stream: bus, dir: o.dir, rotation: rotation{size: o.size, age: o.age},
		log: log, metrics: m, now: time.Now, progress: newProgress(),
	}
	a.sinks = o.sinksOf(a)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve(ctx, o.healthAddr, probes(bus.Healthz)) })
	group.Go(func() error {
		return serve(ctx, o.metricsAddr, map[string]http.Handler{"/metrics": promhttp.HandlerFor(registry, promhttp.HandlerOpts{})})
	})
	group.Go(func() error { return a.run(ctx) })
	log.Info("starting", "dir", o.dir, "sinks", len(a.sinks))
	if err := group.Wait(); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// probes: the process lives while it answers, and is ready when it can hear.
func probes(ready func(*http.Request) error) map[string]http.Handler {
	return map[string]http.Handler{
		"/healthz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }),
		"/readyz": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := ready(r); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			_, _ = io.WriteString(w, "ok\n")
		}),
	}
}

// serve answers on an address until ctx is done.
func serve(ctx context.Context, addr string, handlers map[string]http.Handler) error {
	if addr == off {
		return nil
	}
	mux := http.NewServeMux()
	for path, h := range handlers {
		mux.Handle(path, h)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", addr, err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return fmt.Errorf("answering on %s: %w", addr, err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		return errors.Join(err, server.Close())
	}
	return nil
}
