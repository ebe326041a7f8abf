// Package gather looks at an installation and changes nothing of it: what the core of
// the doctor is given. Each look has a time limit of its own, and all are side by side.
package gather

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/doctor"
	"orkestra.dev/pkg/events"
)

// Bus is called with a connection to NATS that is closed afterwards.
type Bus func(ctx context.Context, do func(context.Context, *events.Bus) error) error

// Options of From.
type Options struct {
	// Namespace of Orkestra.
	Namespace string
	// Timeout of each look.
	Timeout time.Duration
	// Probes are addresses to ask whether they are well, by the name of who is there.
	Probes map[string]string
}

// cluster is how it is looked at.
type cluster struct {
	client.Client
	http    *http.Client
	host    string
	options Options
}

// From the cluster and the bus. The error says that the configuration cannot work; what
// cannot be looked at is a fact.
func From(ctx context.Context, config *rest.Config, bus Bus, o Options) (doctor.Facts, error) {
	c, err := connect(config, o)
	if err != nil {
		return doctor.Facts{}, err
	}
	facts := doctor.Facts{Namespace: o.Namespace, Now: time.Now()}
	l := looks{ctx: ctx, timeout: o.Timeout}
	look(&l, &facts.Server, c.server)
	look(&l, &facts.CRDs, c.crds)
	look(&l, &facts.Workloads, c.workloads)
	look(&l, &facts.Bus, func(ctx context.Context) (events.TopologyState, error) { return topology(ctx, bus) })
	look(&l, &facts.Admission, c.admission)
	look(&l, &facts.Policies, c.policies)
	look(&l, &facts.Access, c.access)
	here, made := client.InNamespace(o.Namespace), client.MatchingLabels{v1alpha1.LabelHeritage: v1alpha1.Heritage}
	owned := client.HasLabels{v1alpha1.LabelOwner}
	look(&l, &facts.Groups, func(ctx context.Context) ([]v1alpha1.ApplicationGroup, error) {
		var list v1alpha1.ApplicationGroupList
		err := c.list(ctx, &list)
		return list.Items, err
	})
	look(&l, &facts.Receivers, func(ctx context.Context) ([]v1alpha1.Receiver, error) {
		var list v1alpha1.ReceiverList
		err := c.list(ctx, &list)
		return list.Items, err
	})
	look(&l, &facts.Workflows, func(ctx context.Context) ([]wfv1.Workflow, error) {
		var list wfv1.WorkflowList
		err := c.list(ctx, &list, here, owned)
		return list.Items, err
	})
	look(&l, &facts.Releases, func(ctx context.Context) ([]helmv2.HelmRelease, error) {
		var list helmv2.HelmReleaseList
		err := c.list(ctx, &list, made)
		return list.Items, err
	})
	look(&l, &facts.Charts, func(ctx context.Context) ([]sourcev1.HelmChart, error) {
		var list sourcev1.HelmChartList
		err := c.list(ctx, &list, here, made)
		return list.Items, err
	})
	look(&l, &facts.Secrets, func(ctx context.Context) ([]metav1.PartialObjectMetadata, error) {
		list := metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"}}
		err := c.list(ctx, &list, made)
		return list.Items, err
	})
	facts.Probes = c.probes(&l)
	l.wait()
	return facts, nil
}

// looks are all that are under way.
type looks struct {
	ctx     context.Context
	timeout time.Duration
	group   sync.WaitGroup
}

func (l *looks) wait() { l.group.Wait() }

func (l *looks) start(do func(context.Context)) {
	l.group.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
		defer cancel()
		do(ctx)
	})
}

// look puts what is seen into into, which nobody may read before the looks are over.
func look[T any](l *looks, into *doctor.Seen[T], see func(context.Context) (T, error)) {
	l.start(func(ctx context.Context) {
		into.Value, into.Err = see(ctx)
		if errors.Is(into.Err, context.DeadlineExceeded) {
			into.Err = fmt.Errorf("no answer within %s", l.timeout)
		}
	})
}

func connect(config *rest.Config, o Options) (*cluster, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		v1alpha1.AddToScheme, wfv1.AddToScheme, helmv2.AddToScheme, sourcev1.AddToScheme, appsv1.AddToScheme, corev1.AddToScheme,
		apiextensionsv1.AddToScheme, admissionv1.AddToScheme, authorizationv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building the scheme: %w", err)
		}
	}
	config = rest.CopyConfig(config)
	config.QPS = -1 // all looks are side by side, and there are not many
	config.Timeout = o.Timeout
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("reaching the Kubernetes API server at %s: %w", config.Host, err)
	}
	from, err := client.New(config, client.Options{Scheme: scheme, HTTPClient: transport})
	if err != nil {
		return nil, fmt.Errorf("reaching the Kubernetes API server at %s: %w", config.Host, err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("reading the address of the Kubernetes API server: %w", err)
	}
	return &cluster{Client: from, http: transport, host: base.String(), options: o}, nil
}

// list, which finds nothing where the cluster knows no such kind: that is said of its CRD.
func (c *cluster) list(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	err := c.List(ctx, list, opts...)
	if apimeta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
