package stager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/stage"
)

const (
	// interval of what we make: we poke where something changed, and the charts under
	// a name never change, so this is only for the loss of source-controller's store.
	interval = 24 * time.Hour
	// pokeEvery is how often source-controller is asked to look at the repository
	// again while a chart is not ready: a museum of several replicas may have shown
	// it an index from before the push.
	pokeEvery = 5 * time.Second
	// applyEvery is how soon an object that the informer does not show is applied again.
	applyEvery = 2 * time.Second
	// tokenFormat sorts as text as it does in time.
	tokenFormat = "2006-01-02T15:04:05.000000000Z"
)

// wanted is a HelmChart that is to be there and ready.
type wanted struct {
	name  string
	piece stage.Piece
}

// provide sees to it that source-controller has the charts, and returns when it
// has all. Where something was pushed, source-controller has to look at the index
// before the new HelmCharts ask it for them.
func (s *stager) provide(ctx context.Context, group *v1alpha1.ApplicationGroup, apps []outcome, pushed bool) error {
	var want []wanted
	for _, a := range apps {
		for _, p := range a.app.Pieces {
			want = append(want, wanted{name: stage.HelmChartName(group, p), piece: p})
		}
	}
	slices.SortFunc(want, func(a, b wanted) int { return cmp.Compare(a.name, b.name) })
	want = slices.CompactFunc(want, func(a, b wanted) bool { return a.name == b.name })

	p := &provision{stager: s, group: group, applied: map[string]time.Time{}}
	waitFor := "" // the poke that source-controller has to have handled
	var pending []string
	err := poll(ctx, tick, s.patience, func() (bool, error) {
		repo, err := p.repository(ctx)
		if err != nil || repo == nil {
			pending = []string{"HelmRepository " + group.Name + " is not there yet"}
			return false, err
		}
		if pushed && waitFor == "" && !p.made(sourcev1.HelmRepositoryKind, group.Name) {
			if waitFor, err = p.poke(ctx, repo); err != nil {
				return false, err
			}
		}
		if repo.Status.Artifact == nil || repo.Status.LastHandledReconcileAt < waitFor {
			pending = []string{"HelmRepository " + group.Name + " was not looked at yet" + saidBy(repo.Status.Conditions)}
			return false, nil
		}
		pending = pending[:0]
		for _, w := range want {
			why, err := p.chart(ctx, w)
			if err != nil {
				return false, err
			}
			if why != "" {
				pending = append(pending, why)
			}
		}
		if len(pending) == 0 {
			return true, nil
		}
		if p.poked.IsZero() {
			p.poked = s.now() // give it its time
		}
		if s.now().Sub(p.poked) >= pokeEvery {
			_, err = p.poke(ctx, repo)
		}
		return false, err
	})
	if errors.Is(err, errPatience) {
		return unavailable("source-controller does not have the charts after %s: %s", s.patience, strings.Join(pending, "; "))
	}
	return err
}

// provision is the work on one group.
type provision struct {
	*stager
	group   *v1alpha1.ApplicationGroup
	applied map[string]time.Time // by kind and name
	poked   time.Time
}

// repository returns the group's HelmRepository, or nil where it is on its way.
func (p *provision) repository(ctx context.Context) (*sourcev1.HelmRepository, error) {
	spec := map[string]any{"url": strings.TrimSuffix(p.staging, "/") + "/" + p.group.Name, "interval": interval.String()}
	repo := &sourcev1.HelmRepository{}
	ok, err := p.get(ctx, p.group.Name, repo)
	if err != nil {
		return nil, err
	}
	if ok && p.ours(repo) && repo.Spec.URL == spec["url"] && !repo.Spec.Suspend {
		return repo, nil
	}
	if leaving(repo) {
		return nil, nil
	}
	return nil, p.apply(ctx, sourcev1.HelmRepositoryKind, p.group.Name, spec)
}

// chart says why a HelmChart is not ready; nothing where it is.
func (p *provision) chart(ctx context.Context, w wanted) (why string, err error) {
	c := &sourcev1.HelmChart{}
	ok, err := p.get(ctx, w.name, c)
	if err != nil {
		return "", err
	}
	ref := sourcev1.LocalHelmChartSourceReference{Kind: sourcev1.HelmRepositoryKind, Name: p.group.Name}
	if leaving(c) {
		return "HelmChart " + w.name + " is being deleted", nil
	}
	if !ok || !p.ours(c) || c.Spec.Chart != w.piece.Chart || c.Spec.Version != w.piece.Version || c.Spec.SourceRef != ref || c.Spec.Suspend {
		return "HelmChart " + w.name + " is not there yet", p.apply(ctx, sourcev1.HelmChartKind, w.name, map[string]any{
			"chart":             w.piece.Chart,
			"version":           w.piece.Version,
			"interval":          interval.String(),
			"reconcileStrategy": sourcev1.ReconcileStrategyChartVersion,
			"sourceRef":         map[string]any{"kind": ref.Kind, "name": ref.Name},
		})
	}
	if !ready(c) {
		return "HelmChart " + w.name + " is not ready" + saidBy(c.Status.Conditions), nil
	}
	// source-controller keeps the very bytes; it may be set to another kind of digest.
	if d := c.Status.Artifact.Digest; strings.HasPrefix(d, "sha256:") && d != w.piece.Digest {
		return fmt.Sprintf("HelmChart %s has an archive with digest %s, %s was staged", w.name, d, w.piece.Digest), nil
	}
	return "", nil
}

func ready(c *sourcev1.HelmChart) bool {
	r := apimeta.FindStatusCondition(c.Status.Conditions, meta.ReadyCondition)
	return r != nil && r.Status == metav1.ConditionTrue && r.ObservedGeneration == c.Generation && c.Status.Artifact != nil
}

func saidBy(conditions []metav1.Condition) string {
	if r := apimeta.FindStatusCondition(conditions, meta.ReadyCondition); r != nil && r.Message != "" {
		return " (" + r.Message + ")"
	}
	return ""
}

// get reads from the informer.
func (p *provision) get(ctx context.Context, name string, into client.Object) (bool, error) {
	err := p.client.Get(ctx, client.ObjectKey{Namespace: p.namespace, Name: name}, into)
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading %T %s: %w", into, name, err)
	}
	return true, nil
}

// leaving tells whether an object is being deleted; another takes its name then.
func leaving(o client.Object) bool { return !o.GetDeletionTimestamp().IsZero() }

// ours tells whether an object belongs to this very group.
func (p *provision) ours(o client.Object) bool {
	return !leaving(o) && slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
		return r.UID == p.group.UID
	})
}

// apply makes an object what it should be. It is called again until the informer
// shows it, and acts now and then.
func (p *provision) apply(ctx context.Context, kind, name string, spec map[string]any) error {
	key := kind + " " + name
	if at, ok := p.applied[key]; ok && p.now().Sub(at) < applyEvery {
		return nil
	}
	p.applied[key] = p.now()
	labels := map[string]any{
		v1alpha1.LabelHeritage: v1alpha1.Heritage,
		v1alpha1.LabelOwner:    v1alpha1.Shorten(p.group.Name, v1alpha1.MaxLabel),
	}
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": sourcev1.GroupVersion.String(),
		"kind":       kind,
		"metadata": map[string]any{
			"namespace": p.namespace,
			"name":      name,
			"labels":    labels,
			// source-controller's own. At an object without it, it would only add it at
			// first, and come back after its minimum retry delay, 750 ms.
			"finalizers": []any{sourcev1.SourceFinalizer},
			"ownerReferences": []any{map[string]any{
				"apiVersion": v1alpha1.GroupVersion.String(),
				"kind":       v1alpha1.Kind,
				"name":       p.group.Name,
				"uid":        string(p.group.UID),
			}},
		},
		"spec": spec,
	}}
	if err := p.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(fieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying %s: %w", key, err)
	}
	return nil
}

// made tells whether we have just made an object: source-controller looks at a new
// one without being asked to.
func (p *provision) made(kind, name string) bool {
	_, ok := p.applied[kind+" "+name]
	return ok
}

// poke has source-controller look at the repository now, and returns the token that
// it will have handled then, it or a later one.
func (p *provision) poke(ctx context.Context, repo *sourcev1.HelmRepository) (token string, err error) {
	p.poked = p.now()
	token = p.poked.UTC().Format(tokenFormat)
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, meta.ReconcileRequestAnnotation, token)
	at := &sourcev1.HelmRepository{ObjectMeta: metav1.ObjectMeta{Namespace: repo.Namespace, Name: repo.Name}}
	if err := p.client.Patch(ctx, at, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldManager)); client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("poking HelmRepository %s: %w", repo.Name, err)
	}
	return token, nil
}
