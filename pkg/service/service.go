// Package service is the shell that every service of Orkestra runs in: the
// command line, the logs, the probes, the metrics, the connections to Kubernetes
// and to the bus, and an orderly end. What a service does is in its own module.
package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
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
	// Namespace is where Workflows, plans, HelmCharts and HelmRepositories are.
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
func Main(s Service) {
	cmd := s.Command()
	err := cmd.ExecuteContext(ctrl.SetupSignalHandler())
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", cmd.Name(), err)
	if _, bad := errors.AsType[*configError](err); bad {
		fmt.Fprintf(os.Stderr, "See %s --help.\n", cmd.Name())
		os.Exit(2)
	}
	os.Exit(1)
}

// Command is the service's command line.
func (s Service) Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:           "orkestra-" + s.Name,
		Short:         s.Short,
		Long:          s.Long + environmentHelp,
		Example:       s.Example,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags(), os.LookupEnv); err != nil {
				return &configError{err}
			}
			if err := o.validate(s); err != nil {
				return &configError{err}
			}
			if s.Validate != nil {
				if err := s.Validate(); err != nil {
					return &configError{err}
				}
			}
			return s.run(cmd.Context(), o)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &configError{err} })
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

func (s Service) run(ctx context.Context, o options) error {
	level, err := o.level()
	if err != nil {
		return &configError{err}
	}
	levels := newLevels(level)
	defer levels.stop()
	log := o.logger(os.Stderr, levels).With("service", s.Name)
	slog.SetDefault(log)
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))

	scheme := runtime.NewScheme()
	for _, add := range append([]func(*runtime.Scheme) error{clientgoscheme.AddToScheme}, s.Schemes...) {
		if err := add(scheme); err != nil {
			return fmt.Errorf("building the scheme: %w", err)
		}
	}
	restConfig := &rest.Config{} // a manager makes no connection before it is asked for an object
	if !s.NoCluster {
		if restConfig, err = o.restConfig(s.Name); err != nil {
			return &configError{err}
		}
	}
	mo := ctrl.Options{
		Scheme:                  scheme,
		Logger:                  logr.FromSlogHandler(log.Handler()),
		HealthProbeBindAddress:  o.healthAddr,
		Metrics:                 metricsserver.Options{BindAddress: o.metricsAddr},
		PprofBindAddress:        onLoopback(o.pprofAddr),
		GracefulShutdownTimeout: &o.gracePeriod,
		Client:                  client.Options{Cache: &client.CacheOptions{DisableFor: s.Uncached}},
		// Names of controllers need only be unique in a process, and several
		// services may share one.
		Controller: config.Controller{SkipNameValidation: new(true)},
	}
	if s.Cache != nil {
		mo.Cache = s.Cache(o.namespace)
	}
	if s.Webhook != nil {
		mo.WebhookServer = s.Webhook()
	}
	m, err := ctrl.NewManager(restConfig, mo)
	if err != nil {
		return fmt.Errorf("reaching the Kubernetes API server at %s: %w", restConfig.Host, err)
	}
	source := "orkestra://" + o.clusterName + "/" + s.Name
	provider, endTraces, err := o.tracing(ctx, s.Name, log)
	if err != nil {
		return &configError{err}
	}
	defer endTraces()
	e := &Env{
		Manager: m, Source: source, Namespace: o.namespace, Log: log,
		Registerer: metrics.Registry, topology: make(chan struct{}),
	}
	e.Bus, err = events.Connect(ctx, events.Options{
		URL:            o.natsURL,
		Name:           "orkestra-" + s.Name,
		Source:         source,
		CredsFile:      o.natsCreds,
		NKeyFile:       o.natsNKey,
		InboxPrefix:    events.InboxOf(s.Name),
		CAFile:         o.natsCA,
		CertFile:       o.natsCert,
		KeyFile:        o.natsKey,
		Logger:         log,
		Registerer:     metrics.Registry,
		TracerProvider: provider,
		Replicas:       o.natsReplicas,
		Grace:          o.gracePeriod,
		Buried: func(ctx context.Context, f events.Fact, reason string) {
			if !s.NoCluster {
				e.tellDeadLetter(ctx, s.Name, f, reason)
			}
		},
	})
	if err != nil {
		return &configError{fmt.Errorf("connecting to NATS at %s: %w", o.natsURL, err)}
	}
	defer func() {
		if err := e.Bus.Close(); err != nil {
			log.Warn("closing the bus", "error", err)
		}
	}()

	if err := e.addProbes(); err != nil {
		return err
	}
	if err := e.addTopology(s, o); err != nil {
		return fmt.Errorf("adding the topology: %w", err)
	}
	if err := e.Run(func(ctx context.Context) error { return levels.follow(ctx, log) }); err != nil {
		return fmt.Errorf("adding the log level: %w", err)
	}
	if err := s.Setup(ctx, e); err != nil {
		return fmt.Errorf("setting up %s: %w", s.Name, err)
	}
	log.Info("starting", "namespace", o.namespace, "nats", redactURL(o.natsURL), "kubernetes", cmp.Or(restConfig.Host, "none"))
	if err := m.Start(ctx); err != nil {
		return fmt.Errorf("running %s: %w", s.Name, err)
	}
	log.Info("stopped")
	return nil
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
	// What the API server warns of it warns of at each write.
	c.WarningHandlerWithContext = ctrllog.NewKubeAPIWarningLogger(ctrllog.KubeAPIWarningLoggerOptions{Deduplicate: true})
	return c, nil
}
