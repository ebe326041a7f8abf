// Package stager is the shell around the core in stage: when a group is desired it
// fetches the charts of its applications, splits them, puts the pieces into the
// staging repository (ChartMuseum), and serves them from there, so that a HelmRelease
// finds its chart in the cluster.
package stager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/stager/internal/lru"
	"orkestra.dev/services/stager/registry"
	"orkestra.dev/services/stager/stage"
)

const (
	// consumer is our name in events.Topology.
	consumer = "stager"
	// fieldManager of all that we apply.
	fieldManager = "orkestra-stager"
	// parallel is how many charts of one group are fetched, pushed or applied at a time.
	parallel = 8
	// notice is how long a group is staged before its status says so.
	notice = time.Second
)

type options struct {
	museumURL       string
	artifactAddr    string
	artifactURL     string
	stagingSecret   string
	credentials     string
	allowPrivate    bool
	workers         int
	cacheMiB        int64
	allowHosts      []string
	plainHosts      []string
	collectEvery    time.Duration
	collectGrace    time.Duration
	announceEvery   time.Duration
	announceTenants []string
}

// New is the stager as a service.
func New() service.Service {
	var o options
	return service.Service{
		Name:  "stager",
		Short: "Stage the charts of groups",
		Long: `The stager fetches the charts of an ApplicationGroup from their registries, splits
those whose subcharts are released on their own, and pushes what comes out to
ChartMuseum, into a repository of the group's own. It makes Flux HelmCharts of that,
and serves their archives to helm-controller.

What cannot be staged is said in the condition Staged. What was staged and is needed by
no revision, no HelmRelease and no rollout is removed after a while.

Any number of replicas may run side by side. A temporary directory has to be writable.`,
		Example: `  # Against servers that listen on this machine, with charts on it too
  orkestra-stager --kubeconfig ~/.kube/config --chartmuseum-url http://127.0.0.1:8088 --artifact-url http://127.0.0.1:9790 --allow-private-registries

  # A ChartMuseum that asks who it is, and the Secret that its password is mounted from
  orkestra-stager --chartmuseum-url http://chartmuseum:8080 --artifact-url http://orkestra-stager.orkestra.svc \
    --staging-credentials /etc/orkestra/chartmuseum --staging-secret orkestra-chartmuseum

  # Only charts of these registries, one of which is in the cluster and has no TLS
  orkestra-stager --chartmuseum-url http://chartmuseum:8080 --artifact-url http://orkestra-stager.orkestra.svc --allow-private-registries \
    --allow-hosts ghcr.io --allow-hosts '*.example.com' --allow-hosts registry.infra --plain-http-hosts registry.infra:5000`,
		AddFlags: func(fs *pflag.FlagSet) {
			fs.StringVar(&o.museumURL, "chartmuseum-url", "", "ChartMuseum that holds the staged charts (started with --depth=1)")
			fs.StringVar(&o.credentials, "staging-credentials", "", "directory with the files username and password for ChartMuseum, such as a mounted Secret; they are read for each request (default: it is not asked for any)")
			fs.StringVar(&o.stagingSecret, "staging-secret", "", "Secret in --namespace that --staging-credentials is mounted from, which no group may have shown to another host (default: none)")
			fs.StringVar(&o.artifactAddr, "artifact-addr", ":9790", "address at which staged charts are served to helm-controller, in plain HTTP")
			fs.StringVar(&o.artifactURL, "artifact-url", "", "URL at which helm-controller reaches --artifact-addr, of any replica: that of a Service")
			fs.BoolVar(&o.allowPrivate, "allow-private-registries", false, "fetch charts from loopback, link-local and private addresses too, and through a proxy")
			fs.StringSliceVar(&o.allowHosts, "allow-hosts", nil, "the only hosts that charts, their indexes, proofs and tokens may come from, exact (ghcr.io) or all below a name (*.example.com); may be given several times (default: any host)")
			fs.StringSliceVar(&o.plainHosts, "plain-http-hosts", nil, "host, or host:port, of an OCI registry without TLS; may be given several times")
			fs.IntVar(&o.workers, "workers", 4, "groups that are staged side by side")
			fs.Int64Var(&o.cacheMiB, "chart-cache-size", 64, "MiB of charts to keep in memory, packed, as many again unpacked, and a quarter of that as they are served")
			fs.DurationVar(&o.collectEvery, "collect-every", 10*time.Minute, "how often to look for staged charts that nothing needs any more; 0 keeps them")
			fs.DurationVar(&o.announceEvery, "announce-every", time.Minute, "how often to look for charts in ChartMuseum that are new, and to say so; 0 says nothing")
			fs.StringSliceVar(&o.announceTenants, "announce-tenants", nil, "repository paths in ChartMuseum to look at beside those of the groups; may be given several times")
			fs.DurationVar(&o.collectGrace, "collect-grace", 10*time.Minute, "how long a staged chart has to be unneeded before it is removed")
		},
		Validate: o.validate,
		Schemes:  []func(*runtime.Scheme) error{v1alpha1.AddToScheme, sourcev1.AddToScheme, helmv2.AddToScheme},
		// Groups are fences, and Secrets, and values, are nobody else's business.
		// Revisions and releases are looked at now and then.
		Uncached: []client.Object{
			&v1alpha1.ApplicationGroup{}, &corev1.Secret{}, &corev1.ConfigMap{}, &appsv1.ControllerRevision{}, &helmv2.HelmRelease{},
			&sourcev1.HelmRepository{},
		},
		Cache: func(namespace string) cache.Options {
			return cache.Options{ByObject: map[client.Object]cache.ByObject{&sourcev1.HelmChart{}: {
				Namespaces: map[string]cache.Config{namespace: {}},
				Label:      labels.SelectorFromSet(labels.Set{v1alpha1.LabelHeritage: v1alpha1.Heritage}),
			}}}
		},
		Setup: func(ctx context.Context, e *service.Env) error { return o.setup(ctx, e) },
	}
}

func (o *options) validate() error {
	var errs []error
	if o.museumURL == "" {
		errs = append(errs, errors.New("--chartmuseum-url is missing: it is where staged charts go"))
	}
	if o.artifactURL == "" {
		errs = append(errs, errors.New("--artifact-url is missing: it is where helm-controller fetches staged charts, http://<Service>.<namespace>.svc in a cluster"))
	}
	if _, err := net.ResolveTCPAddr("tcp", o.artifactAddr); err != nil {
		errs = append(errs, fmt.Errorf("--artifact-addr %q: want host:port or :port", o.artifactAddr))
	}
	for flag, raw := range map[string]string{"--chartmuseum-url": o.museumURL, "--artifact-url": o.artifactURL} {
		if raw == "" {
			continue
		}
		switch u, err := url.Parse(raw); {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s is not a URL", flag))
		case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
			errs = append(errs, fmt.Errorf("%s %q: want http://host:port or https://host", flag, u.Redacted()))
		case u.User != nil:
			errs = append(errs, fmt.Errorf("%s: a name and password in the URL would show in the cluster; leave them out", flag))
		}
	}
	if o.stagingSecret != "" && len(validation.IsDNS1123Subdomain(o.stagingSecret)) > 0 {
		errs = append(errs, fmt.Errorf("--staging-secret %q: want the name of a Secret, without a namespace", o.stagingSecret))
	}
	if o.workers < 1 {
		errs = append(errs, fmt.Errorf("--workers %d: want at least 1", o.workers))
	}
	if o.cacheMiB < 1 {
		errs = append(errs, fmt.Errorf("--chart-cache-size %d: want at least 1", o.cacheMiB))
	}
	for flag, hosts := range map[string][]string{"--allow-hosts": o.allowHosts, "--plain-http-hosts": o.plainHosts} {
		for _, host := range hosts {
			if host == "" || strings.ContainsAny(host, "/@ ") {
				errs = append(errs, fmt.Errorf("%s %q: want a host, such as ghcr.io, without a scheme and a path", flag, host))
			}
		}
	}
	if o.announceEvery < 0 {
		errs = append(errs, fmt.Errorf("--announce-every %s: want 0 or more", o.announceEvery))
	}
	if o.collectEvery < 0 || o.collectGrace < 0 {
		errs = append(errs, fmt.Errorf("--collect-every %s, --collect-grace %s: want 0 or more", o.collectEvery, o.collectGrace))
	}
	return errors.Join(errs...)
}

func (o *options) setup(ctx context.Context, e *service.Env) error {
	// Helm prints values into its warnings, and it prints to the standard logger, which
	// would hand it on to ours.
	log.SetOutput(io.Discard)

	as := login(o.credentials)
	// Better now than in the first rollout.
	if _, _, err := as.read(); err != nil {
		return err
	}
	museum, err := newMuseum(o.museumURL, as)
	if err != nil {
		return err
	}
	served, err := newArtifacts(museum, o.artifactURL, o.cacheMiB<<18, e.Log)
	if err != nil {
		return err
	}
	if err := e.Registerer.Register(served.total); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	if err := e.Manager.Add(served.listen(o.artifactAddr)); err != nil {
		return fmt.Errorf("adding who serves staged charts: %w", err)
	}
	s := &stager{
		client: e.Manager.GetClient(),
		registry: registry.New(registry.Options{
			AllowPrivate: o.allowPrivate, AllowHosts: o.allowHosts, PlainHTTP: o.plainHosts,
			CacheBytes: o.cacheMiB << 20, UserAgent: "orkestra-stager",
		}),
		museum:    museum,
		charts:    lru.New[*stage.Chart](o.cacheMiB << 20),
		tagged:    lru.New[stage.Piece](o.cacheMiB << 20),
		slots:     make(chan struct{}, splitting),
		namespace: e.Namespace,
		artifacts: served,
		guard:     guard{login: as, secret: client.ObjectKey{Namespace: e.Namespace, Name: o.stagingSecret}, host: museum.base.Host},
		patience:  patience,
		now:       time.Now,
		log:       e.Log,
	}
	// Begin to watch now, rather than in the first rollout.
	if _, err := e.Manager.GetCache().GetInformer(ctx, &sourcev1.HelmChart{}, cache.BlockUntilSynced(false)); err != nil {
		return fmt.Errorf("watching HelmCharts: %w", err)
	}
	if err := e.Manager.Add(manager.RunnableFunc(s.keepServed)); err != nil {
		return fmt.Errorf("adding the look at HelmCharts: %w", err)
	}
	if o.collectEvery > 0 {
		c := &collector{stager: s, every: o.collectEvery, grace: o.collectGrace}
		if err := e.Manager.Add(manager.RunnableFunc(c.run)); err != nil {
			return fmt.Errorf("adding the collector: %w", err)
		}
	}
	if o.announceEvery > 0 {
		a := &announcer{museum: museum, stager: s, say: e.Say, every: o.announceEvery, tenants: o.announceTenants}
		if err := e.Manager.Add(manager.RunnableFunc(a.run)); err != nil {
			return fmt.Errorf("adding the announcer: %w", err)
		}
	}
	return e.Consume(consumer, o.workers, s.handle)
}

// stager is what handling an event takes.
type stager struct {
	// client reads groups and Secrets live, and our HelmCharts from an informer.
	client   client.Client
	registry registry.Registry
	museum   museum
	// charts that were opened, by where they came from and digest, and pieces under a version of their own, by
	// the digest of the piece.
	charts *lru.Cache[*stage.Chart]
	tagged *lru.Cache[stage.Piece]
	// slots of those who open or split a chart.
	slots chan struct{}
	// namespace of HelmCharts.
	namespace string
	// artifacts are served; guard keeps the password of the staging repository from other hosts.
	artifacts *artifacts
	guard     guard
	patience  time.Duration
	now       func() time.Time
	log       *slog.Logger
}

func (s *stager) handle(ctx context.Context, f events.Fact) ([]events.Fact, error) {
	switch f.Data.(type) {
	case events.GroupDesired:
		facts, err := s.desired(ctx, f)
		if events.IsSuperseded(err) {
			// Whoever died over this event may have pushed as well.
			if problem := s.leaveNothing(ctx, f.Rollout); problem != nil {
				return nil, problem
			}
		}
		return facts, err
	case events.GroupDeleted:
		return nil, s.deleted(ctx, f.Rollout)
	default:
		return nil, nil // not for us
	}
}
