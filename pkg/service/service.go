// Package service is the shell that every service of Orkestra runs in: the
// command line, the logs, the probes, the metrics, the connections to Kubernetes
// and to the bus, and an orderly end. What a service does is in its own module.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"orkestra.dev/pkg/events"
)

// Service is one service: what tells it from the others.
type Service struct {
	// Name of the service: "stager". It names the binary, the consumer's metrics
	// and the source of its events.
	Name string
	// Short, Long and Example are the texts of --help.
	Short, Long, Example string
	// AddFlags adds the flags that only this service has.
	AddFlags func(*pflag.FlagSet)
	// Validate refuses values of those flags with which the service cannot work.
	Validate func() error
	// NoCluster: the service knows nothing of Kubernetes, and runs where there is none.
	// It has no kubeconfig and no namespace, and its Manager no client to use.
	NoCluster bool
	// NoTopology: the service reads the streams that others have made.
	NoTopology bool
	// keepsTopology: it makes the streams, and mends them for as long as it runs.
	keepsTopology bool
	// hosted: the bus is in the process, and has no flags.
	hosted bool
	// Schemes of the kinds that the service reads and writes, beside client-go's.
	Schemes []func(*runtime.Scheme) error
	// Cache narrows what informers hold. By default they hold whole kinds.
	Cache func(namespace string) cache.Options
	// Uncached are kinds that are always read live, so that no informer holds them.
	Uncached []client.Object
	// Webhook is the admission server, where the service has one.
	Webhook func() webhook.Server
	// Setup adds the service's controllers, consumers and other runnables to the
	// manager. It does no work of its own.
	Setup func(ctx context.Context, e *Env) error
}

// Env is what a service works with.
type Env struct {
	// Manager runs the controllers and gives the clients.
	Manager ctrl.Manager
	// Bus carries the events.
	Bus *events.Bus
	// Source of what the service says: orkestra://<cluster>/<service>.
	Source string
	// Namespace is where Workflows, plans and HelmCharts are.
	Namespace string
	// Log is the service's logger.
	Log *slog.Logger
	// Registerer takes metrics that /metrics then shows.
	Registerer prometheus.Registerer

	topology chan struct{} // closed when the streams and consumers are there
}

// Run adds work that goes on until its context is done. Its error ends the service.
func (e *Env) Run(work func(context.Context) error) error {
	return e.Manager.Add(manager.RunnableFunc(work))
}

// Consume adds a consumer of the topology (see events.Topology) that runs
// workers handlers at a time.
func (e *Env) Consume(consumer string, workers int, h events.Handler) error {
	return e.Run(func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-e.topology:
		}
		if err := e.Bus.Consume(ctx, consumer, workers, h); err != nil && ctx.Err() == nil {
			return fmt.Errorf("consuming as %s: %w", consumer, err)
		}
		return nil
	})
}

// Say publishes facts and waits until they are stored.
func (e *Env) Say(ctx context.Context, facts ...events.Fact) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-e.topology:
	}
	return e.Bus.Say(ctx, facts...)
}

// Main runs the service's command and ends the process: 0 after an orderly stop,
// 2 on a bad configuration, 1 on any other failure.
func Main(s Service) { MainOf(s.Command()) }

// MainOf is Main of any command of this package.
func MainOf(cmd *cobra.Command) {
	err := cmd.ExecuteContext(ctrl.SetupSignalHandler())
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", cmd.Name(), err)
	if IsConfiguration(err) {
		fmt.Fprintf(os.Stderr, "See %s --help.\n", cmd.Name())
		os.Exit(2)
	}
	os.Exit(1)
}

// IsConfiguration reports whether err is about flags with which nothing can work.
func IsConfiguration(err error) bool {
	_, bad := errors.AsType[*configError](err)
	return bad
}

// Command is the service's command line.
func (s Service) Command() *cobra.Command {
	var o options
	cmd := newCommand("orkestra-"+s.Name, s.Short, s.Long, s.Example, func(cmd *cobra.Command) error {
		validate := []func() error{func() error { return o.validate(s) }}
		if s.Validate != nil {
			validate = append(validate, s.Validate)
		}
		if err := configured(cmd.Flags(), validate...); err != nil {
			return err
		}
		return Process{Name: s.Name, Services: []Service{s}}.run(cmd.Context(), o)
	})
	if !s.NoTopology && !s.keepsTopology {
		cmd.CompletionOptions.DisableDefaultCmd = true
		cmd.AddCommand(topologyCommand())
	}
	o.addFlags(cmd.Flags(), s)
	if s.AddFlags != nil {
		s.AddFlags(cmd.Flags())
	}
	return cmd
}

func (o *options) restConfig(service string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	c, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("loading the kubeconfig: %w", err)
	}
	c.UserAgent = "orkestra-" + service
	// The API server's own priority and fairness decides; a limit here would only
	// add its delay to every edge of the graph.
	c.QPS = -1
	// To compress what is larger than 128 KiB, such as the workflow of a hundred releases, costs the API
	// server more than to send it through a cluster's network.
	c.DisableCompression = true
	// What the API server warns of it warns of at each write.
	c.WarningHandlerWithContext = ctrllog.NewKubeAPIWarningLogger(ctrllog.KubeAPIWarningLoggerOptions{Deduplicate: true})
	return c, nil
}
