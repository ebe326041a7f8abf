package main

import (
	"context"
	"fmt"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"golang.org/x/sync/errgroup"

	"orkestra.dev/bench/rollout/figures"
	"orkestra.dev/bench/rollout/shape"
)

// contender rolls out a graph in a namespace of its own, which is there.
type contender interface {
	// prepare makes what is there before the clock starts.
	prepare(ctx context.Context, r *rollout) error
	// install returns when all releases are ready, change when the release r.changed()
	// has its new value, again when it is known that there is nothing to do.
	install(ctx context.Context, r *rollout) error
	change(ctx context.Context, r *rollout) error
	// again returns false where there is nothing to be measured: it has no such thing
	// as being asked again.
	again(ctx context.Context, r *rollout) (measured bool, err error)
	// clean takes away what clean of the rollout does not.
	clean(ctx context.Context, r *rollout) error
}

// entrant is a contender as the benchmark runs it.
type entrant struct {
	name string
	contender
	// controller are flags of the helm-controller that it runs with.
	controller []string
	// byRecords: it makes no HelmReleases.
	byRecords bool
	// sequences: it creates each release when its parents are ready.
	sequences bool
}

// rollout is one contender on one graph, in one repeat.
type rollout struct {
	*world
	*track
	entrant entrant
	// programs is what programs cost that are no processes of the stack, by their name;
	// peaks is their memory, in MiB.
	programs, peaks map[string]float64
}

// writers is how many objects the benchmark writes at once, where it writes many.
const writers = 8

// changed is the release that gets another value: one that others wait for.
func (r *rollout) changed() shape.Release { return r.graph.Releases[0] }

// release is a HelmRelease as Orkestra makes it: with the chart fetched before, and
// with helm-controller's finalizer.
func (r *rollout) release(name string) *helmv2.HelmRelease {
	return &helmv2.HelmRelease{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: name, Finalizers: []string{helmv2.HelmReleaseFinalizer}},
		Spec: helmv2.HelmReleaseSpec{
			ChartRef: &helmv2.CrossNamespaceSourceReference{Kind: "HelmChart", Name: chart},
			Interval: metav1.Duration{Duration: 5 * time.Minute},
			Values:   message(hello),
		},
	}
}

func message(text string) *apiextensionsv1.JSON {
	return &apiextensionsv1.JSON{Raw: fmt.Appendf(nil, `{"message":%q}`, text)}
}

// patchValues gives the release to be changed its new value.
func (r *rollout) patchValues(ctx context.Context) error {
	hr := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: r.changed().Name}}
	patch := fmt.Appendf(nil, `{"spec":{"values":{"message":%q}}}`, changed)
	if err := r.client.Patch(ctx, hr, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return fmt.Errorf("changing a release: %w", err)
	}
	return r.awaitReady(ctx, r.changed().Name)
}

// source makes a HelmRepository, and, where it is asked for, a HelmChart of it, and
// waits until they are ready.
func (r *rollout) source(ctx context.Context, withChart bool) error {
	repository := source("HelmRepository", r.namespace, chart, map[string]any{"url": r.shelf.URL, "interval": "10m"})
	if err := r.client.Create(ctx, repository); err != nil {
		return fmt.Errorf("creating the HelmRepository: %w", err)
	}
	wait := repository
	if withChart {
		wait = source("HelmChart", r.namespace, chart, map[string]any{"chart": chart, "version": chartVersion, "interval": "10m",
			"sourceRef": map[string]any{"kind": "HelmRepository", "name": chart}})
		if err := r.client.Create(ctx, wait); err != nil {
			return fmt.Errorf("creating the HelmChart: %w", err)
		}
	}
	return poll(ctx, "the chart's source to be ready", func(ctx context.Context) (bool, error) {
		err := r.client.Get(ctx, client.ObjectKeyFromObject(wait), wait)
		return err == nil && isReady(wait), err
	})
}

func source(kind, namespace, name string, spec map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetAPIVersion("source.toolkit.fluxcd.io/v1")
	u.SetKind(kind)
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

// create objects, some at once, those that come first first.
func (r *rollout) create(ctx context.Context, objects []*helmv2.HelmRelease) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	for _, o := range objects {
		g.Go(func() error {
			if err := r.client.Create(ctx, o); err != nil {
				return fmt.Errorf("creating HelmRelease %s: %w", o.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// wipe takes away all releases of the rollout and what they have installed, without
// asking Helm: the namespaces are used once.
func (r *rollout) wipe(ctx context.Context) error {
	namespaces := map[string]bool{}
	for rec := range r.names {
		namespaces[rec.namespace] = true
	}
	for namespace := range namespaces {
		in := client.InNamespace(namespace)
		if err := r.client.DeleteAllOf(ctx, &helmv2.HelmRelease{}, in); err != nil {
			return fmt.Errorf("deleting the HelmReleases of %s: %w", namespace, err)
		}
		if err := r.letGo(ctx, namespace); err != nil {
			return err
		}
		for _, o := range []client.Object{source("HelmChart", "", "", nil), source("HelmRepository", "", "", nil), &corev1.Secret{}, &corev1.ConfigMap{}} {
			if err := r.client.DeleteAllOf(ctx, o, in); err != nil {
				return fmt.Errorf("cleaning namespace %s: %w", namespace, err)
			}
		}
	}
	return nil
}

// letGo takes the finalizers off HelmReleases that are being deleted, and waits until
// they are gone.
func (r *rollout) letGo(ctx context.Context, namespace string) error {
	return poll(ctx, "the HelmReleases of "+namespace+" to go", func(ctx context.Context) (bool, error) {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(helmv2.GroupVersion.WithKind(helmv2.HelmReleaseKind + "List"))
		if err := r.client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return false, err
		}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(writers)
		for _, o := range list.Items {
			g.Go(func() error {
				hr := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: o.Name}}
				patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
				return client.IgnoreNotFound(r.client.Patch(ctx, hr, patch))
			})
		}
		return apimeta.LenList(list) == 0, g.Wait()
	})
}

// poll asks until it is so, or ctx is done.
func poll(ctx context.Context, what string, done func(context.Context) (bool, error)) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		ok, err := done(ctx)
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		case <-again.C:
		}
	}
}

// measure a phase: what do does, and what it cost.
func (r *rollout) measure(ctx context.Context, repeat int, phase figures.Phase, do func(context.Context) (bool, error)) (*figures.Run, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it was not done within %s", patience))
	defer cancel()
	before, err := r.meter.read(ctx)
	if err != nil {
		return nil, err
	}
	r.phase()
	measured, err := do(ctx)
	if err != nil || !measured {
		return nil, err
	}
	run := &figures.Run{Case: r.graph.Name(), Releases: len(r.graph.Releases), Contender: r.entrant.name, Repeat: repeat, Phase: phase,
		WallSeconds: time.Since(r.began).Seconds()}
	if err := r.meter.charge(ctx, run, before); err != nil {
		return nil, err
	}
	for name, seconds := range r.programs {
		run.CPUSeconds[name] = seconds
	}
	for name, mib := range r.peaks {
		run.PeakMiB[name] = mib
	}
	return run, r.complete(run)
}

// complete a run with what the track has seen.
func (r *rollout) complete(run *figures.Run) error {
	r.mu.Lock()
	if len(r.ready) > 0 {
		run.WallSeconds = r.since(r.ready, true)
	}
	if !r.groupReady.IsZero() {
		run.GroupSeconds = r.groupReady.Sub(r.began).Seconds()
		run.WallSeconds = max(run.WallSeconds, 0)
		if len(r.ready) == 0 {
			run.WallSeconds = run.GroupSeconds
		}
	}
	run.HelmActions = r.actions
	first := r.created
	if r.entrant.byRecords {
		first = r.helm
	}
	if run.Phase == figures.Install {
		run.FirstSeconds = r.since(first, false)
	}
	r.mu.Unlock()
	if run.Phase != figures.Install {
		return nil
	}
	var err error
	if run.GapSeconds, err = r.overheads(r.helm); err != nil {
		return err
	}
	if r.entrant.sequences {
		run.EdgeSeconds, err = r.overheads(r.created)
	}
	return err
}
