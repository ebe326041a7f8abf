package stager

import (
	"context"
	"fmt"
	"sync"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/stored"
	"orkestra.dev/services/stager/stage"
)

// place sees to it that the staging repository holds the pieces of all applications. What is there is not pushed again; what is there with other contents
// stays, and the piece gets a version of its own. It begins nothing more when a piece
// is not taken, and returns how many pieces were pushed.
func (s *stager) place(ctx context.Context, tenant string, o *outcomes) (pushed int) {
	h, err := s.museum.Held(ctx, tenant)
	if err != nil {
		o.err = err
		return 0
	}
	p := &placement{stager: s, tenant: tenant, held: h}
	all := lanes(o.apps)
	each(len(all), func(i int) { p.walk(ctx, all[i]) })
	return p.pushed
}

// spot is a piece of an application.
type spot struct {
	of    *outcome
	piece *stage.Piece
}

// lanes are the pieces of all applications by the name that they are staged under. Those
// of one name go one after the other, in the order of the spec: two may have other
// contents under one version.
func lanes(apps []outcome) [][]spot {
	var all [][]spot
	by := map[string]int{}
	for i := range apps {
		pieces := apps[i].app.Pieces
		for j := range pieces {
			at, ok := by[pieces[j].Chart]
			if !ok {
				at = len(all)
				by[pieces[j].Chart] = at
				all = append(all, nil)
			}
			all[at] = append(all[at], spot{&apps[i], &pieces[j]})
		}
	}
	return all
}

// placement is the work on one group.
type placement struct {
	*stager
	tenant string

	mu     sync.Mutex
	held   held // by the museum
	pushed int
	failed bool
}

// walk places the pieces of a lane.
func (p *placement) walk(ctx context.Context, lane []spot) {
	for _, at := range lane {
		p.mu.Lock()
		failed, h := p.failed, p.named(at.piece.Chart)
		p.mu.Unlock()
		if failed {
			return
		}
		piece, isNew, err := p.placeOne(ctx, p.tenant, *at.piece, h)
		p.mu.Lock()
		if err != nil {
			p.failed, at.of.err = true, err
		} else {
			*at.piece = piece
			p.held[museumChart{piece.Chart, piece.Version}] = piece.Digest
		}
		if isNew {
			p.pushed++
			p.artifacts.keep(piece)
		}
		p.mu.Unlock()
	}
}

// named is what the museum holds of one name.
func (p *placement) named(name string) held {
	h := held{}
	for c, digest := range p.held {
		if c.Name == name {
			h[c] = digest
		}
	}
	return h
}

// placeOne returns the piece as it is in the museum now.
func (s *stager) placeOne(ctx context.Context, tenant string, p stage.Piece, h held) (_ stage.Piece, isNew bool, err error) {
	for _, tagged := range []bool{false, true} {
		candidate := p
		if tagged {
			if candidate, err = s.tag(p); err != nil {
				return p, false, err
			}
		}
		digest, ok := h[museumChart{candidate.Chart, candidate.Version}]
		if !ok {
			if digest, err = s.museum.Push(ctx, tenant, candidate); err != nil {
				return p, false, err
			}
		}
		if digest == candidate.Digest {
			return candidate, !ok, nil
		}
	}
	return p, false, unavailable("the staging repository holds other contents under every version that chart %s %s could have", p.Chart, p.Version)
}

// tag gives a piece a version of its own, once.
func (s *stager) tag(p stage.Piece) (stage.Piece, error) {
	if t, ok := s.tagged.Get(p.Digest); ok {
		return t, nil
	}
	t, err := p.Tagged()
	if err == nil {
		s.tagged.Put(p.Digest, t, int64(len(t.Archive)))
	}
	return t, err
}

// deleted empties the repository of a group that is gone, but for what HelmCharts need
// that nobody owns: those of a group that went alone.
func (s *stager) deleted(ctx context.Context, r events.Rollout) error {
	h, err := s.museum.Held(ctx, r.Group)
	if err != nil {
		return events.RetryAfter(0, err)
	}
	orphans, err := s.orphans(ctx, r.Group)
	if err != nil {
		return err
	}
	for c := range h {
		if orphans[c] {
			continue
		}
		// Another group of that name may have come meanwhile: the charts are its.
		var group v1alpha1.ApplicationGroup
		switch err := s.client.Get(ctx, client.ObjectKey{Name: r.Group}, &group); {
		case err == nil && string(group.UID) != r.UID:
			return events.Superseded(string(group.UID))
		case err != nil && !apierrors.IsNotFound(err):
			return fmt.Errorf("reading group %s: %w", r.Group, err)
		}
		if err := s.museum.Remove(ctx, r.Group, c); err != nil {
			return events.RetryAfter(0, err)
		}
	}
	return nil
}

// leaveNothing empties the repository of a group that is gone, for who may have pushed to it meanwhile: the end of the group
// may have been heard before that. While the group is there, its end is still to be heard; where there is another of
// its name, that one's charts are collected.
func (s *stager) leaveNothing(ctx context.Context, r events.Rollout) error {
	now, err := stored.Metadata(ctx, s.client, v1alpha1.GroupVersion.WithKind(v1alpha1.Kind), client.ObjectKey{Name: r.Group})
	switch {
	case err != nil:
		return fmt.Errorf("reading group %s: %w", r.Group, err)
	case now != nil:
		return nil
	}
	if err := s.deleted(ctx, r); err != nil && !events.IsSuperseded(err) {
		return err
	}
	return nil
}

// orphans are the charts in the repository of a group that HelmCharts refer to which
// nobody owns. They lost their owner before the end of the group was said, which the
// informer may not show yet: they are read live.
func (s *stager) orphans(ctx context.Context, group string) (map[museumChart]bool, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(sourcev1.GroupVersion.WithKind(sourcev1.HelmChartKind + "List"))
	labels := client.MatchingLabels{v1alpha1.LabelOwner: v1alpha1.Shorten(group, v1alpha1.MaxLabel)}
	if err := s.client.List(ctx, list, client.InNamespace(s.namespace), labels); err != nil {
		return nil, fmt.Errorf("listing the HelmCharts of group %s: %w", group, err)
	}
	out := map[museumChart]bool{}
	for i := range list.Items {
		h, err := helmChart(&list.Items[i])
		if err != nil {
			return nil, err
		}
		if len(h.OwnerReferences) == 0 && !leaving(h) {
			out[museumChart{h.Spec.Chart, h.Spec.Version}] = true
		}
	}
	return out, nil
}
