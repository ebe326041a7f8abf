package main

import (
	"context"
	"fmt"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/bench/rollout/shape"
)

// orkestra rolls a graph out as one group, of the namespace's name: an application for
// each release, or one application with a split chart.
type orkestra struct {
	// mode is where its steps are run; the default is the executor service.
	mode v1alpha1.ExecutorMode
}

func (orkestra) prepare(context.Context, *rollout) error { return nil }

func (o orkestra) install(ctx context.Context, r *rollout) error {
	if err := r.client.Create(ctx, o.group(r)); err != nil {
		return fmt.Errorf("creating the group: %w", err)
	}
	if err := r.awaitReady(ctx, r.allNames()...); err != nil {
		return err
	}
	return r.awaitGroup(ctx)
}

func (o orkestra) group(r *rollout) *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}}
	g.Spec.Executor = o.mode
	if r.graph.Shape == shape.Umbrella {
		a := application(r, shape.UmbrellaName, umbrellaChart(r.graph))
		for _, release := range r.graph.Releases {
			if release.Subchart != "" {
				a.Spec.Subcharts = append(a.Spec.Subcharts, v1alpha1.DAG{Name: release.Subchart})
			}
		}
		a.Spec.Release.Values = o.values(r, hello)
		g.Spec.Applications = []v1alpha1.Application{a}
		return g
	}
	for _, release := range r.graph.Releases {
		a := application(r, release.Name, chart)
		a.Dependencies = release.Parents
		a.Spec.Release.Values = o.values(r, hello)
		g.Spec.Applications = append(g.Spec.Applications, a)
	}
	return g
}

func application(r *rollout, name, chart string) v1alpha1.Application {
	a := v1alpha1.Application{DAG: v1alpha1.DAG{Name: name}}
	a.Spec.Chart = v1alpha1.ChartRef{URL: r.shelf.URL, Name: chart, Version: chartVersion}
	a.Spec.Release = v1alpha1.Release{TargetNamespace: r.namespace, Interval: metav1.Duration{Duration: 5 * time.Minute}}
	return a
}

// values of the release that is to change, as its application is given them.
func (orkestra) values(r *rollout, text string) *apiextensionsv1.JSON {
	if subchart := r.changed().Subchart; subchart != "" {
		return &apiextensionsv1.JSON{Raw: fmt.Appendf(nil, `{%q:{"message":%q}}`, subchart, text)}
	}
	return message(text)
}

func (o orkestra) change(ctx context.Context, r *rollout) error {
	patch := fmt.Appendf(nil, `[{"op":"replace","path":"/spec/applications/0/spec/release/values","value":%s}]`, o.values(r, changed).Raw)
	if err := o.patch(ctx, r, types.JSONPatchType, patch); err != nil {
		return err
	}
	if err := r.awaitReady(ctx, r.changed().Name); err != nil {
		return err
	}
	return r.awaitGroup(ctx)
}

func (o orkestra) again(ctx context.Context, r *rollout) (bool, error) {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"again"}}}`, v1alpha1.AnnotationRequestedAt)
	if err := o.patch(ctx, r, types.MergePatchType, patch); err != nil {
		return false, err
	}
	return true, r.awaitGroup(ctx)
}

func (orkestra) patch(ctx context.Context, r *rollout, kind types.PatchType, patch []byte) error {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}}
	if err := r.client.Patch(ctx, g, client.RawPatch(kind, patch)); err != nil {
		return fmt.Errorf("changing the group: %w", err)
	}
	return nil
}

// clean takes the group away without its reverse, which would take as long as the
// rollout.
func (o orkestra) clean(ctx context.Context, r *rollout) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"true"}}}`, v1alpha1.AnnotationForceDelete)
	if err := o.patch(ctx, r, types.MergePatchType, patch); err != nil {
		return err
	}
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}}
	if err := r.client.Delete(ctx, g); err != nil {
		return fmt.Errorf("deleting the group: %w", err)
	}
	return poll(ctx, "group "+r.namespace+" to go", func(ctx context.Context) (bool, error) {
		err := r.client.Get(ctx, client.ObjectKeyFromObject(g), g)
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
}
