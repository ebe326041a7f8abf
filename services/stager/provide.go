package stager

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/stage"
)

// patience with a HelmChart that is being deleted, and in whose place another is to come.
const patience = 30 * time.Second

// wanted is a HelmChart that is to be there and to offer its artifact.
type wanted struct {
	name  string
	piece stage.Piece
}

// provide sees to it that each piece has a HelmChart which offers the staged archive, so that
// a HelmRelease can be installed from it.
func (s *stager) provide(ctx context.Context, group *v1alpha1.ApplicationGroup, apps []outcome) error {
	var want []wanted
	for _, a := range apps {
		for _, p := range a.app.Pieces {
			want = append(want, wanted{name: stage.HelmChartName(group, p), piece: p})
		}
	}
	slices.SortFunc(want, func(a, b wanted) int { return cmp.Compare(a.name, b.name) })
	want = slices.CompactFunc(want, func(a, b wanted) bool { return a.name == b.name })

	p := &provision{stager: s, group: group}
	all, err := poll(ctx, s.patience, func() (bool, error) {
		offered, errs := make([]bool, len(want)), make([]error, len(want))
		each(len(want), func(i int) { offered[i], errs[i] = p.offer(ctx, want[i]) })
		var left []wanted
		for i, w := range want {
			if !offered[i] {
				left = append(left, w)
			}
		}
		want = left
		return len(left) == 0, errors.Join(errs...)
	})
	if err == nil && !all {
		return unavailable("%d HelmCharts are being deleted, and do not go within %s; among them %s", len(want), s.patience, want[0].name)
	}
	return err
}

// provision is the work on one group.
type provision struct {
	*stager
	group *v1alpha1.ApplicationGroup
}

// offer makes the HelmChart of a piece what it is to be, where it is not that, and tells whether it is. It is
// not while another of its name is being deleted, and where somebody else was faster.
func (p *provision) offer(ctx context.Context, w wanted) (bool, error) {
	want := stage.Served(stage.HelmChart(p.group, p.namespace, w.piece), w.piece.Digest)
	have := &sourcev1.HelmChart{}
	err := p.client.Get(ctx, client.ObjectKeyFromObject(want), have)
	there := err == nil
	switch {
	case client.IgnoreNotFound(err) != nil:
		return false, fmt.Errorf("reading HelmChart %s: %w", w.name, err)
	case leaving(have):
		return false, nil // another takes its name then
	case there && p.ours(have):
		if _, marked := have.Annotations[v1alpha1.AnnotationUnusedSince]; marked {
			// Whoever is about to collect it finds it changed, and lets it be.
			if there, err = p.unmark(ctx, w.name); err != nil || !there {
				return false, err
			}
		}
	}
	return p.served(ctx, there, have, want)
}

// served applies what is not as it is to be: what is to be made of a HelmChart, and the artifact that it offers.
func (s *stager) served(ctx context.Context, there bool, have, want *sourcev1.HelmChart) (bool, error) {
	var err error
	if !there || !sameOwner(have, want) || !sameSource(have, want) {
		if have, err = s.apply(ctx, want); err != nil {
			return false, err
		}
	}
	artifact := s.artifacts.of(want)
	if leaving(have) || artifact.Offers(have) {
		return !leaving(have), nil
	}
	o, err := stage.UnstructuredStatus(artifact.Status(have, metav1.NewTime(s.now())))
	if err != nil {
		return false, err
	}
	switch err := s.client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(fieldManager), client.ForceOwnership); {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // it is gone, or another
		return false, nil
	case err != nil:
		return false, fmt.Errorf("writing what HelmChart %s offers: %w", want.Name, err)
	}
	return true, nil
}

// sameOwner tells whether a HelmChart has the owner that it is to have.
func sameOwner(have, want *sourcev1.HelmChart) bool {
	return slices.EqualFunc(stage.Served(have, "").OwnerReferences, want.OwnerReferences, func(a, b metav1.OwnerReference) bool { return a.UID == b.UID })
}

// sameSource tells whether a HelmChart is of the archive that it is to be of, and is left alone by source-controller.
func sameSource(have, want *sourcev1.HelmChart) bool {
	return have.Spec.Chart == want.Spec.Chart && have.Spec.Version == want.Spec.Version && have.Spec.SourceRef == want.Spec.SourceRef && have.Spec.Suspend == want.Spec.Suspend &&
		have.Annotations[v1alpha1.AnnotationDigest] == want.Annotations[v1alpha1.AnnotationDigest]
}

// leaving tells whether an object is being deleted; another takes its name then.
func leaving(o client.Object) bool { return !o.GetDeletionTimestamp().IsZero() }

// ours tells whether an object belongs to this very group.
func (p *provision) ours(o client.Object) bool {
	return !leaving(o) && slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
		return r.UID == p.group.UID
	})
}

// apply makes a HelmChart what it should be, and returns it as it is then.
func (s *stager) apply(ctx context.Context, want *sourcev1.HelmChart) (*sourcev1.HelmChart, error) {
	o, err := stage.Unstructured(want)
	if err != nil {
		return nil, err
	}
	if err := s.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(fieldManager), client.ForceOwnership); err != nil {
		return nil, fmt.Errorf("applying HelmChart %s: %w", want.Name, err)
	}
	return helmChart(o)
}

func helmChart(o *unstructured.Unstructured) (*sourcev1.HelmChart, error) {
	h := &sourcev1.HelmChart{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, h); err != nil {
		return nil, fmt.Errorf("reading HelmChart %s: %w", o.GetName(), err)
	}
	return h, nil
}

// unmark takes a HelmChart into use again that was marked as unused. It tells whether that was still there.
func (s *stager) unmark(ctx context.Context, name string) (there bool, err error) {
	at := &sourcev1.HelmChart{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, v1alpha1.AnnotationUnusedSince)
	err = s.client.Patch(ctx, at, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldManager))
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("taking HelmChart %s into use again: %w", name, err)
	}
	return err == nil, nil
}

// serveEvery is how often HelmCharts are looked at that do not offer what they are to offer.
const serveEvery = time.Minute

// keepServed looks at once, and then now and then.
func (s *stager) keepServed(ctx context.Context) error {
	const trouble = "not all HelmCharts offer their archive"
	if err := s.serveAll(ctx); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, trouble, "err", err)
	}
	s.nowAndThen(ctx, serveEvery, trouble, s.serveAll)
	return nil
}

// serveAll has HelmCharts offer their archive here that do not: where --artifact-url is another than it was, where an earlier
// Orkestra left them to source-controller, and where somebody has resumed them. One of which nobody knows the digest is being
// staged. Then the HelmRepositories that an earlier Orkestra made for them are nobody's.
func (s *stager) serveAll(ctx context.Context) error {
	var all sourcev1.HelmChartList
	// They are looked at, and there may be ten thousand: nobody needs copies.
	if err := s.client.List(ctx, &all, client.InNamespace(s.namespace), ours(), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing HelmCharts: %w", err)
	}
	offered, errs := make([]bool, len(all.Items)), make([]error, len(all.Items))
	each(len(all.Items), func(i int) {
		h := &all.Items[i]
		switch digest := stage.DigestOf(h); {
		case leaving(h):
			offered[i], errs[i] = true, s.letGo(ctx, h.DeepCopy())
		case digest != "":
			offered[i], errs[i] = s.served(ctx, true, h, stage.Served(h, digest))
		}
	})
	needed := map[string]bool{}
	for i, done := range offered {
		if !done {
			needed[all.Items[i].Spec.SourceRef.Name] = true
		}
	}
	return errors.Join(errors.Join(errs...), s.unneeded(ctx, needed))
}

// letGo takes source-controller's finalizer off a HelmChart that is being deleted for a while: where it runs it does so within
// milliseconds, and where it does not it has nothing of the chart.
func (s *stager) letGo(ctx context.Context, h *sourcev1.HelmChart) error {
	if s.now().Sub(h.DeletionTimestamp.Time) < serveEvery || !controllerutil.RemoveFinalizer(h, sourcev1.SourceFinalizer) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": h.UID, "resourceVersion": h.ResourceVersion, "finalizers": h.Finalizers}})
	if err == nil {
		at := &sourcev1.HelmChart{ObjectMeta: metav1.ObjectMeta{Namespace: h.Namespace, Name: h.Name}}
		err = s.client.Patch(ctx, at, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldManager))
	}
	return unlessMoved(err, "letting HelmChart "+h.Name+" go")
}

// unneeded deletes our HelmRepositories but those that a HelmChart still needs.
func (s *stager) unneeded(ctx context.Context, needed map[string]bool) error {
	var repositories sourcev1.HelmRepositoryList
	if err := s.client.List(ctx, &repositories, client.InNamespace(s.namespace), ours()); err != nil {
		return fmt.Errorf("listing HelmRepositories: %w", err)
	}
	var errs []error
	for i := range repositories.Items {
		r := &repositories.Items[i]
		if leaving(r) || needed[r.Name] {
			continue
		}
		if err := s.client.Delete(ctx, r, client.Preconditions{UID: &r.UID}); client.IgnoreNotFound(err) != nil {
			errs = append(errs, fmt.Errorf("deleting HelmRepository %s: %w", r.Name, err))
		}
	}
	return errors.Join(errs...)
}
