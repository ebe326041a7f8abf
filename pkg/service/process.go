package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"orkestra.dev/pkg/events"
)

// Process is one service, or several that share a process: one log, one address each for
// probes, metrics and admission, and one end. What a service says and may cache stays its
// own. When one fails, all of them end.
type Process struct {
	// Name of the process, in its log and of its binary: "all".
	Name string
	// Short, Long and Example are the texts of --help.
	Short, Long, Example string
	// Services, in the order in which they are set up. A flag that several of them have, or that all
	// services have in common, gets the service's name before its own: --stager-workers.
	Services []Service
	// Runs says which services run with the flags as they are. By default all do.
	Runs func(service string) bool
	// AddFlags adds the flags that the process has beside those of its services.
	AddFlags func(*pflag.FlagSet)
	// Validate refuses values of those flags; it comes before the services' own.
	Validate func() error
	// Host starts a bus in this process. Without it the flags of NATS say where one is.
	Host func(ctx context.Context, log *slog.Logger) (Host, error)
}

// Host is a bus in the process of the services that use it.
type Host interface {
	// Reach fills in how a service of that name gets to the bus.
	Reach(service string, o *events.Options)
	// Run watches over the bus until ctx is done. Its error ends the process.
	Run(ctx context.Context) error
	// Close ends the bus, after all that use it.
	Close() error
}

// Command is the command line of the process. It runs until its context is done.
func (p Process) Command() *cobra.Command {
	var o options
	shell := Service{Name: p.Name, NoTopology: p.Host != nil, hosted: p.Host != nil}
	cmd := newCommand("orkestra-"+p.Name, p.Short, p.Long, p.Example, func(cmd *cobra.Command) error {
		validate := []func() error{func() error { return o.validate(shell) }}
		if p.Validate != nil {
			validate = append(validate, p.Validate)
		}
		for _, s := range p.running() {
			if s.Validate != nil {
				validate = append(validate, func() error { return of(s.Name, s.Validate()) })
			}
		}
		if err := configured(cmd.Flags(), validate...); err != nil {
			return err
		}
		return p.run(cmd.Context(), o)
	})
	o.addFlags(cmd.Flags(), shell)
	if shell.hosted {
		o.natsTopology = topologyAwait
	}
	if p.AddFlags != nil {
		p.AddFlags(cmd.Flags())
	}
	addFlagsOf(cmd.Flags(), p.Services)
	return cmd
}

// of says whose flags an error names.
func of(service string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", service, err)
}

// newCommand is a command line without flags yet.
func newCommand(use, short, long, example string, run func(*cobra.Command) error) *cobra.Command {
	cmd := &cobra.Command{
		Use:           use,
		Short:         short,
		Long:          long + environmentHelp,
		Example:       example,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &configError{err} })
	return cmd
}

// configured takes the flags that are not given from the environment, and has all of them validated.
func configured(flags *pflag.FlagSet, validate ...func() error) error {
	if err := fromEnvironment(flags, os.LookupEnv); err != nil {
		return &configError{err}
	}
	for _, valid := range validate {
		if err := valid(); err != nil {
			return &configError{err}
		}
	}
	return nil
}

// addFlagsOf adds the flags of services to those of their process.
func addFlagsOf(flags *pflag.FlagSet, services []Service) {
	own := make([]*pflag.FlagSet, len(services))
	count := map[string]int{}
	flags.VisitAll(func(f *pflag.Flag) { count[f.Name]++ })
	for i, s := range services {
		own[i] = pflag.NewFlagSet(s.Name, pflag.ContinueOnError)
		if s.AddFlags != nil {
			s.AddFlags(own[i])
		}
		own[i].VisitAll(func(f *pflag.Flag) { count[f.Name]++ })
	}
	for i, s := range services {
		own[i].VisitAll(func(f *pflag.Flag) {
			f.Usage = s.Name + ": " + f.Usage
			if count[f.Name] > 1 {
				f.Name = s.Name + "-" + f.Name
			}
			flags.AddFlag(f)
		})
	}
}

func (p Process) running() []Service {
	var out []Service
	for _, s := range p.Services {
		if p.Runs == nil || p.Runs(s.Name) {
			out = append(out, s)
		}
	}
	return out
}

// shared is what the services of a process have in common.
type shared struct {
	options
	manager ctrl.Manager
	log     *slog.Logger
	host    Host
	// several: what is the process's has to be told apart by service.
	several bool
	mapper  meta.RESTMapper
	// setUp is closed when all services are set up, or need not be any more.
	setUp <-chan struct{}
	// kubernetes is the address of the API server.
	kubernetes string
}

func (p Process) run(ctx context.Context, o options) (err error) {
	level, err := o.level()
	if err != nil {
		return &configError{err}
	}
	levels := newLevels(level)
	defer levels.stop()
	log := o.logger(os.Stderr, levels)
	slog.SetDefault(log.With("service", p.Name))
	ctrl.SetLogger(logr.FromSlogHandler(slog.Default().Handler()))

	services := p.running()
	settingUp, isSetUp := context.WithCancel(ctx)
	defer isSetUp()
	shared := &shared{options: o, log: log, several: len(p.Services) > 1, setUp: settingUp.Done()}
	if shared.manager, err = o.manager(services); err != nil {
		return err
	}
	if p.Host != nil {
		if shared.host, err = p.Host(ctx, slog.Default()); err != nil {
			return fmt.Errorf("starting the bus: %w", err)
		}
		defer func() { err = errors.Join(err, shared.host.Close()) }()
		if err := shared.manager.Add(manager.RunnableFunc(shared.host.Run)); err != nil {
			return fmt.Errorf("adding the bus: %w", err)
		}
	}
	for _, s := range services {
		end, err := shared.add(ctx, s)
		defer end()
		if err != nil {
			return err
		}
	}
	isSetUp()
	if err := shared.manager.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding /healthz: %w", err)
	}
	if err := shared.manager.Add(manager.RunnableFunc(func(ctx context.Context) error { return levels.follow(ctx, slog.Default()) })); err != nil {
		return fmt.Errorf("adding the log level: %w", err)
	}
	slog.Info("starting", "namespace", o.namespace, "nats", cmp.Or(redactURL(o.natsURL), "in this process"), "kubernetes", cmp.Or(shared.kubernetes, "none"))
	if err := shared.manager.Start(ctx); err != nil {
		return fmt.Errorf("running %s: %w", p.Name, err)
	}
	slog.Info("stopped")
	return nil
}

// manager runs all that the process does. Its own connection to a cluster is not used.
func (o *options) manager(services []Service) (ctrl.Manager, error) {
	mo := ctrl.Options{
		Logger:                  ctrl.Log,
		HealthProbeBindAddress:  o.healthAddr,
		Metrics:                 metricsserver.Options{BindAddress: o.metricsAddr},
		PprofBindAddress:        onLoopback(o.pprofAddr),
		GracefulShutdownTimeout: &o.gracePeriod,
		// Names of controllers need only be unique in a process, and several
		// services may share one.
		Controller: config.Controller{SkipNameValidation: new(true)},
	}
	for _, s := range services {
		if s.Webhook == nil {
			continue
		}
		if server := s.Webhook(); server != nil {
			mo.WebhookServer = server
		}
	}
	m, err := ctrl.NewManager(&rest.Config{}, mo)
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	return m, nil
}

// add sets up a service. End closes what it has opened, and may be called after an error too.
func (p *shared) add(ctx context.Context, s Service) (end func(), err error) {
	log := p.log.With("service", s.Name)
	var ends []func()
	end = func() {
		for i := range ends {
			ends[len(ends)-1-i]()
		}
	}
	e := &Env{
		Manager: p.manager, Source: "orkestra://" + p.clusterName + "/" + s.Name, Namespace: p.namespace, Log: log,
		Registerer: metrics.Registry, topology: make(chan struct{}),
	}
	if !s.NoCluster {
		if e.Manager, err = p.member(s, log); err != nil {
			return end, err
		}
	}
	provider, endTraces, err := p.tracing(ctx, s.Name, log)
	if err != nil {
		return end, &configError{err}
	}
	ends = append(ends, endTraces)
	bus := p.bus(s, e)
	bus.TracerProvider = provider
	if e.Bus, err = events.Connect(ctx, bus); err != nil {
		return end, &configError{fmt.Errorf("connecting to NATS at %s: %w", p.natsURL, err)}
	}
	ends = append(ends, func() {
		if err := e.Bus.Close(); err != nil {
			log.Warn("closing the bus", "error", err)
		}
	})
	prefix := ""
	if p.several {
		prefix = s.Name + "-"
	}
	if err := e.addProbes(prefix); err != nil {
		return end, err
	}
	if err := e.addTopology(s, p.options); err != nil {
		return end, fmt.Errorf("adding the topology: %w", err)
	}
	if err := s.Setup(ctx, e); err != nil {
		return end, fmt.Errorf("setting up %s: %w", s.Name, err)
	}
	return end, nil
}

// bus is how a service connects.
func (p *shared) bus(s Service, e *Env) events.Options {
	bus := events.Options{
		URL:         p.natsURL,
		Name:        "orkestra-" + s.Name,
		Source:      e.Source,
		CredsFile:   p.natsCreds,
		NKeyFile:    p.natsNKey,
		InboxPrefix: events.InboxOf(s.Name),
		CAFile:      p.natsCA,
		CertFile:    p.natsCert,
		KeyFile:     p.natsKey,
		Logger:      e.Log,
		Registerer:  metrics.Registry,
		Replicas:    p.natsReplicas,
		Grace:       p.gracePeriod,
		Away:        away,
		Buried: func(ctx context.Context, f events.Fact, reason string) {
			if !s.NoCluster {
				e.tellDeadLetter(ctx, s.Name, f, reason)
			}
		},
	}
	if p.host != nil {
		p.host.Reach(s.Name, &bus)
	}
	return bus
}

// member is the manager as one service sees it, with that service's cluster.
type member struct {
	cluster.Cluster // what is cached, and how
	lifecycle
	log logr.Logger
}

// lifecycle has everything else. Its methods are deeper than those of the cluster, which hide them.
type lifecycle struct{ ctrl.Manager }

// GetLogger implements manager.Manager.
func (m member) GetLogger() logr.Logger { return m.log }

func (p *shared) member(s Service, log *slog.Logger) (ctrl.Manager, error) {
	scheme := runtime.NewScheme()
	for _, add := range append([]func(*runtime.Scheme) error{clientgoscheme.AddToScheme}, s.Schemes...) {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building the scheme: %w", err)
		}
	}
	restConfig, err := p.restConfig(s.Name)
	if err != nil {
		return nil, &configError{err}
	}
	p.kubernetes = restConfig.Host
	c, err := cluster.New(restConfig, func(co *cluster.Options) {
		co.Scheme = scheme
		co.Logger = logr.FromSlogHandler(log.Handler())
		co.Client = client.Options{Cache: &client.CacheOptions{DisableFor: s.Uncached}}
		co.MapperProvider = p.restMapper
		if s.Cache != nil {
			co.Cache = s.Cache(p.namespace)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("reaching the Kubernetes API server at %s: %w", restConfig.Host, err)
	}
	if err := p.manager.Add(c); err != nil {
		return nil, fmt.Errorf("adding the cluster: %w", err)
	}
	return member{Cluster: c, lifecycle: lifecycle{p.manager}, log: logr.FromSlogHandler(log.Handler())}, nil
}

// restMapper is one for all services: which kinds there are is the same for each.
func (p *shared) restMapper(c *rest.Config, h *http.Client) (meta.RESTMapper, error) {
	if p.mapper == nil {
		m, err := apiutil.NewDynamicRESTMapper(c, h)
		if err != nil {
			return nil, err
		}
		p.mapper = patient{RESTMapper: m, until: time.Now().Add(kindsTime), stop: p.setUp}
	}
	return p.mapper, nil
}
