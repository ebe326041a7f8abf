package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
)

// helmController is the process that the benchmark can stand in for.
const helmController = "helm-controller"

// hands in which releases are written side by side.
const hands = 16

// model is a release that helm-controller made: the status that it wrote, and the names in it.
type model struct {
	namespace, name string
	status          []byte
}

// standIn takes helm-controller's place: it stops it, and writes of every release from then on, as soon as it is there,
// what helm-controller has written of one of the group of that name; and the ConfigMap that is the chart. Of Helm it
// leaves out all but that: a release costs Helm a quarter of a second, and what services keep is objects. The context
// that is returned ends where that cannot go on, since nobody's releases become ready then; end ends it, and says what went wrong.
func (w *world) standIn(ctx context.Context, group string) (_ context.Context, end func() error, err error) {
	var made helmv2.HelmReleaseList
	if err := w.client.List(ctx, &made, client.InNamespace(group)); err != nil {
		return nil, nil, fmt.Errorf("listing the releases of %s: %w", group, err)
	}
	if len(made.Items) == 0 {
		return nil, nil, fmt.Errorf("group %s has no release in its namespace", group)
	}
	m := model{namespace: group, name: made.Items[0].Name}
	if m.status, err = json.Marshal(made.Items[0].Status); err != nil {
		return nil, nil, fmt.Errorf("encoding the status of a release: %w", err)
	}
	helm, err := w.stack.Process(helmController)
	if err != nil {
		return nil, nil, err
	}
	if err := helm.Stop(ctx); err != nil {
		return nil, nil, fmt.Errorf("stopping helm-controller: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	seen, err := watchtools.NewRetryWatcherWithContext(ctx, made.ResourceVersion, &toolscache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return w.client.Watch(ctx, &helmv2.HelmReleaseList{}, client.MatchingLabels{v1alpha1.LabelHeritage: v1alpha1.Heritage}, &client.ListOptions{Raw: &o})
		},
	})
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("watching releases: %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		defer stop()
		ended <- w.answer(ctx, seen, m)
	}()
	return ctx, func() error {
		stop()
		return <-ended
	}, nil
}

// answer every release that the watch shows, until it ends with ctx.
func (w *world) answer(ctx context.Context, seen watch.Interface, m model) error {
	defer seen.Stop()
	work, working := errgroup.WithContext(ctx)
	work.SetLimit(hands)
	defer context.AfterFunc(working, seen.Stop)() // the first error ends it
	for e := range seen.ResultChan() {
		hr, ok := e.Object.(*helmv2.HelmRelease)
		if !ok {
			return fmt.Errorf("watching releases: %w", apierrors.FromObject(e.Object))
		}
		if e.Type != watch.Added || apimeta.IsStatusConditionTrue(hr.Status.Conditions, v1alpha1.ConditionReady) {
			continue
		}
		work.Go(func() error { return w.install(working, hr, m) })
	}
	err := work.Wait()
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("the watch of releases has ended")
	}
	return err
}

// install a release, for all that others see of it.
func (w *world) install(ctx context.Context, hr *helmv2.HelmRelease, m model) error {
	key := client.ObjectKeyFromObject(hr)
	err := w.client.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: hr.GetReleaseNamespace(), Name: hr.GetReleaseName() + "-" + chart}, Data: map[string]string{"message": "none"},
	})
	if err != nil && !apierrors.IsAlreadyExists(err) { // a watch that was begun again may show it twice
		return fmt.Errorf("creating the ConfigMap of %s: %w", key, err)
	}
	renamed := strings.NewReplacer(m.namespace, hr.Namespace, m.name, hr.Name).Replace(string(m.status))
	hr.Status = helmv2.HelmReleaseStatus{}
	if err := json.Unmarshal([]byte(renamed), &hr.Status); err != nil {
		return fmt.Errorf("writing the status of %s: %w", key, err)
	}
	hr.Status.ObservedGeneration, hr.Status.LastAttemptedGeneration = hr.Generation, hr.Generation
	for i := range hr.Status.Conditions {
		hr.Status.Conditions[i].ObservedGeneration = hr.Generation
	}
	status, err := json.Marshal(map[string]any{"status": hr.Status})
	if err != nil {
		return fmt.Errorf("writing the status of %s: %w", key, err)
	}
	if err := w.client.Status().Patch(ctx, hr, client.RawPatch(types.MergePatchType, status)); err != nil {
		return fmt.Errorf("writing the status of %s: %w", key, err)
	}
	return nil
}
