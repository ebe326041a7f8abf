package stager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/stager/stage"
)

const (
	// listedWithin is how long ChartMuseum may take to list what it has stored; it
	// does so in milliseconds, unless it is set to do it at intervals.
	listedWithin = 5 * time.Second
	tick         = 20 * time.Millisecond
)

// place sees to it that the staging repository holds the pieces of all applications,
// and lists them. What is there is not pushed again; what is there with other contents
// stays, and the piece gets a version of its own. It stops at the first application
// whose pieces are not taken, and returns how many pieces were pushed.
func (s *stager) place(ctx context.Context, tenant string, o *outcomes) (pushed int) {
	h, err := s.museum.Held(ctx, tenant)
	if err != nil {
		o.err = err
		return 0
	}
	added := held{}
	for i := range o.apps {
		// One after the other: two may have other contents under one name and version.
		if o.apps[i].err = s.placeAll(ctx, tenant, o.apps[i].app.Pieces, h, added); o.apps[i].err != nil {
			return len(added)
		}
	}
	o.err = s.listed(ctx, tenant, added)
	return len(added)
}

// placeAll places the pieces of one application, whose names all differ, and notes
// in h and added what the museum holds then.
func (s *stager) placeAll(ctx context.Context, tenant string, pieces []stage.Piece, h, added held) error {
	var wg sync.WaitGroup
	errs := make([]error, len(pieces))
	isNew := make([]bool, len(pieces))
	slots := make(chan struct{}, parallel)
	for i := range pieces {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			pieces[i], isNew[i], errs[i] = s.placeOne(ctx, tenant, pieces[i], h)
		})
	}
	wg.Wait()
	for i, p := range pieces {
		if errs[i] == nil {
			h[held1{p.Chart, p.Version}] = p.Digest
		}
		if isNew[i] {
			added[held1{p.Chart, p.Version}] = p.Digest
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
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
		digest, ok := h[held1{candidate.Chart, candidate.Version}]
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

// listed waits until the museum lists what it was given: source-controller is to
// find it in the index when it looks.
func (s *stager) listed(ctx context.Context, tenant string, added held) error {
	if len(added) == 0 {
		return nil
	}
	var missing string
	err := poll(ctx, tick, listedWithin, func() (bool, error) {
		h, err := s.museum.Held(ctx, tenant)
		if err != nil {
			return false, err
		}
		for c, digest := range added {
			if h[c] != digest {
				missing = c.Name + " " + c.Version
				return false, nil
			}
		}
		return true, nil
	})
	if errors.Is(err, errPatience) {
		return unavailable("ChartMuseum took chart %s and does not list it after %s", missing, listedWithin)
	}
	return err
}

var errPatience = errors.New("not in time")

// poll asks until the answer is yes, at most for the time given.
func poll(ctx context.Context, every, within time.Duration, ask func() (bool, error)) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	again := time.NewTicker(every)
	defer again.Stop()
	for {
		if yes, err := ask(); yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return errPatience
		case <-again.C:
		}
	}
}

// deleted empties the repository of a group that is gone.
func (s *stager) deleted(ctx context.Context, r events.Rollout) error {
	h, err := s.museum.Held(ctx, r.Group)
	if err != nil {
		return events.RetryAfter(0, err)
	}
	for c := range h {
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
