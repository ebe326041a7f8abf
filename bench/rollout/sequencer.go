package main

import (
	"context"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sequencer is the limit: it creates each HelmRelease the moment its parents are seen
// ready, and knows every trick: the chart is fetched, the finalizer set.
type sequencer struct{}

func (sequencer) prepare(ctx context.Context, r *rollout) error { return r.source(ctx, true) }

func (sequencer) install(ctx context.Context, r *rollout) error {
	begun := map[string]bool{}
	for len(begun) < len(r.graph.Releases) {
		var next []*helmv2.HelmRelease
		err := r.await(ctx, func() bool {
			for _, release := range r.graph.Begun(r.readyNames(), begun) {
				begun[release.Name] = true
				next = append(next, r.release(release.Name))
			}
			return len(next) > 0
		})
		if err != nil {
			return err
		}
		if err := r.create(ctx, next); err != nil {
			return err
		}
	}
	return r.awaitReady(ctx, r.allNames()...)
}

func (sequencer) change(ctx context.Context, r *rollout) error { return r.patchValues(ctx) }

func (sequencer) again(context.Context, *rollout) (bool, error) { return false, nil }

func (sequencer) clean(context.Context, *rollout) error { return nil }

// flux is what people have: HelmReleases that depend on each other, all applied at
// once, each with its chart by name and version.
type flux struct{}

func (flux) prepare(ctx context.Context, r *rollout) error { return r.source(ctx, false) }

func (flux) install(ctx context.Context, r *rollout) error {
	var all []*helmv2.HelmRelease
	for _, release := range r.graph.Releases {
		hr := r.release(release.Name)
		hr.Finalizers, hr.Spec.ChartRef = nil, nil
		hr.Spec.Chart = &helmv2.HelmChartTemplate{Spec: helmv2.HelmChartTemplateSpec{Chart: chart, Version: chartVersion,
			Interval:  &metav1.Duration{Duration: hr.Spec.Interval.Duration},
			SourceRef: helmv2.CrossNamespaceObjectReference{Kind: "HelmRepository", Name: chart}}}
		for _, p := range release.Parents {
			hr.Spec.DependsOn = append(hr.Spec.DependsOn, helmv2.DependencyReference{Name: p})
		}
		all = append(all, hr)
	}
	if err := r.create(ctx, all); err != nil {
		return err
	}
	return r.awaitReady(ctx, r.allNames()...)
}

func (flux) change(ctx context.Context, r *rollout) error { return r.patchValues(ctx) }

func (flux) again(context.Context, *rollout) (bool, error) { return false, nil }

func (flux) clean(context.Context, *rollout) error { return nil }
