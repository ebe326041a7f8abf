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
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/stage"
)

const (
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
// has all, or when it has made none for as long as our patience. Where something was pushed, source-controller has to look at the index
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
	every, rung := tick, (<-chan struct{})(nil)
	if s.bells != nil {
		var leave func()
		rung, leave = s.bells.hear(v1alpha1.Shorten(group.Name, v1alpha1.MaxLabel))
		defer leave()
		every = seldom
	}
	for {
		left := len(want)
		err := poll(ctx, every, s.patience, rung, func() (bool, error) {
			ok, err := p.step(ctx, &want, pushed)
			return ok || len(want) < left, err
		})
		switch {
		case errors.Is(err, errPatience):
			return unavailable("source-controller has made none of the charts that are left in %s: %s", s.patience, p.why(len(want)))
		case err != nil || len(want) == 0:
			return err
		}
	}
}

// step does what can be done now, takes the charts that are ready out of want, and
// tells whether that is all of them.
func (p *provision) step(ctx context.Context, want *[]wanted, pushed bool) (bool, error) {
	repo, err := p.repository(ctx)
	if err != nil || repo == nil {
		p.pending = []string{"HelmRepository " + p.group.Name + " is not there yet"}
		return false, err
	}
	if pushed && p.waitFor == "" && !p.made(sourcev1.HelmRepositoryKind, p.group.Name) {
		if p.waitFor, err = p.poke(ctx, repo); err != nil {
			return false, err
		}
	}
	if repo.Status.Artifact == nil || repo.Status.LastHandledReconcileAt < p.waitFor {
		p.pending = []string{"HelmRepository " + p.group.Name + " was not looked at yet" + saidBy(repo.Status.Conditions)}
		return false, nil
	}
	var left []wanted
	var writes []func() error
	p.pending = nil
	for _, w := range *want {
		why, write, err := p.chart(ctx, w)
		if err != nil {
			return false, err
		}
		if write != nil {
			writes = append(writes, write)
		}
		if why != "" {
			left, p.pending = append(left, w), append(p.pending, why)
		}
	}
	if p.poked.IsZero() || len(left) < len(*want) {
		p.poked = p.now() // it is at work: give it its time
	}
	*want = left
	errs := make([]error, len(writes))
	each(len(writes), func(i int) { errs[i] = writes[i]() })
	if err := errors.Join(errs...); err != nil {
		return false, err
	}
	if len(left) > 0 && p.now().Sub(p.poked) >= pokeEvery {
		_, err = p.poke(ctx, repo)
	}
	return len(left) == 0, err
}

// provision is the work on one group.
type provision struct {
	*stager
	group   *v1alpha1.ApplicationGroup
	applied map[string]time.Time // by kind and name
	waitFor string               // the poke that source-controller has to have handled
	poked   time.Time
	pending []string // what is waited for
}

// why so many charts are waited for, in a few of them.
func (p *provision) why(left int) string {
	const few = 5
	text := strings.Join(p.pending[:min(few, len(p.pending))], "; ")
	if len(p.pending) > few {
		text += fmt.Sprintf("; and %d more", left-few)
	}
	return text
}

// repository returns the group's HelmRepository, or nil where it is on its way.
func (p *provision) repository(ctx context.Context) (*sourcev1.HelmRepository, error) {
	want := stage.HelmRepository(p.group, p.namespace, p.staging)
	repo := &sourcev1.HelmRepository{}
	ok, err := p.get(ctx, want.Name, repo)
	if err != nil {
		return nil, err
	}
	if ok && p.ours(repo) && repo.Spec.URL == want.Spec.URL && knows(repo, want) && !repo.Spec.Suspend {
		return repo, nil
	}
	if leaving(repo) {
		return nil, nil
	}
	if p.recently(want.Kind + " " + want.Name) {
		return nil, nil
	}
	return nil, p.apply(ctx, want)
}

// chart says why a HelmChart is not ready, nothing where it is, and gives what is to be
// written for it now.
func (p *provision) chart(ctx context.Context, w wanted) (why string, write func() error, err error) {
	want := stage.HelmChart(p.group, p.namespace, w.piece)
	c := &sourcev1.HelmChart{}
	ok, err := p.get(ctx, w.name, c)
	if err != nil {
		return "", nil, err
	}
	if leaving(c) {
		return "HelmChart " + w.name + " is being deleted", nil, nil
	}
	if !ok || !p.ours(c) || c.Spec.Chart != want.Spec.Chart || c.Spec.Version != want.Spec.Version || c.Spec.SourceRef != want.Spec.SourceRef || c.Spec.Suspend {
		if !p.recently(want.Kind + " " + w.name) {
			write = func() error { return p.apply(ctx, want) }
		}
		return "HelmChart " + w.name + " is not there yet", write, nil
	}
	if _, marked := c.Annotations[v1alpha1.AnnotationUnusedSince]; marked {
		// Whoever is about to collect it finds it changed, and lets it be.
		if !p.recently("mark of " + w.name) {
			write = func() error { return p.unmark(ctx, w.name) }
		}
		return "HelmChart " + w.name + " is being taken into use again", write, nil
	}
	if !ready(c) {
		return "HelmChart " + w.name + " is not ready" + saidBy(c.Status.Conditions), nil, nil
	}
	// source-controller keeps the very bytes; it may be set to another kind of digest.
	if d := c.Status.Artifact.Digest; strings.HasPrefix(d, "sha256:") && d != w.piece.Digest {
		return fmt.Sprintf("HelmChart %s has an archive with digest %s, %s was staged", w.name, d, w.piece.Digest), nil, nil
	}
	return "", nil, nil
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

// recently tells whether something was written just now, which the informer need not
// show yet; where it was not, it is to be now.
func (p *provision) recently(key string) bool {
	if at, ok := p.applied[key]; ok && p.now().Sub(at) < applyEvery {
		return true
	}
	p.applied[key] = p.now()
	return false
}

// apply makes an object what it should be.
func (p *provision) apply(ctx context.Context, source client.Object) error {
	o, err := stage.Unstructured(source)
	if err != nil {
		return err
	}
	if err := p.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(fieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}

// unmark takes a HelmChart into use again that was marked as unused.
func (p *provision) unmark(ctx context.Context, name string) error {
	at := &sourcev1.HelmChart{ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: name}}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, v1alpha1.AnnotationUnusedSince)
	if err := p.client.Patch(ctx, at, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldManager)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("taking HelmChart %s into use again: %w", name, err)
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
