package executor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"orkestra.dev/pkg/events"
	"orkestra.dev/services/executor/execute"
)

// parallelCalls bounds what one look asks of the API server at a time.
const parallelCalls = 16

// look observes one workflow, decides, and acts: what is to be begun is begun
// first, and then all nodes that are done, among them those of releases that turned
// out to be ready as they are, are settled together. Where it has to come back
// though nobody calls, the error is a stillOpen.
//
// Whoever was overtaken looks at everything anew: what it was overtaken by may be
// a newer generation.
func (w *writer) look(ctx context.Context, wake wake) error {
	for try := range maxConflicts {
		s, err := w.reader.observe(ctx, wake)
		if err != nil {
			return err
		}
		s.again = try > 0
		s.Refused, s.Held = map[string]string{}, map[string]bool{}
		overtaken, err := w.proceed(ctx, s)
		if len(overtaken) == 0 {
			return err
		}
		for _, key := range overtaken {
			wake.news = append(wake.news, news{key: key, timed: true})
		}
		wake.live = true
	}
	return events.RetryAfter(retryDelay, fmt.Errorf("looking at workflow %s: %w", wake.workflow, errConflicts))
}

// proceed decides and acts on a state, and on what its own acts make of it. It
// returns the releases at which it was overtaken, with nothing settled yet.
func (w *writer) proceed(ctx context.Context, s *seen) (overtaken []execute.Key, err error) {
	var failures []error
	for {
		a, err := execute.Next(s.State)
		if err != nil {
			return nil, fmt.Errorf("deciding on workflow %s: %w", s.Workflow.Name, err)
		}
		begins := len(a.Apply)+len(a.Delete)+len(a.Run)+len(a.Prepare) > 0
		if begins && !s.live || a.Ahead && s.acted {
			// A stop, or a newer generation, comes before what is begun; and, where that turns
			// out to be done already, before the next level, as it does where Argo has to come between.
			switch same, err := w.reader.refresh(ctx, s); {
			case err != nil:
				return nil, err
			case !same:
				continue
			}
		}
		switch {
		case a.Superseded != "" && !s.groupLive:
			// The informer may not have seen a new group yet.
			s.groupLive = true
			if s.Group, err = w.reader.group(ctx, s); err != nil {
				return nil, err
			}
		case begins:
			lost, failed := w.begin(ctx, s, a)
			if len(lost) > 0 {
				return lost, nil
			}
			failures = append(failures, failed...)
			s.acted = true
		default:
			done, err := w.end(ctx, s, a)
			if err != nil {
				failures = append(failures, err)
			} else if !done {
				continue
			}
			err = verdict(failures)
			if a.Superseded != "" && err == nil {
				err = events.Superseded(a.Superseded)
			}
			if len(a.Poll) > 0 {
				err = &stillOpen{tasks: a.Poll, polled: polled(s.Plan), rest: err}
			}
			return nil, err
		}
	}
}

// end settles nodes, unless that may wait. It reports whether that was all: a gate that
// is open in Argo may let more be begun.
func (w *writer) end(ctx context.Context, s *seen, a execute.Actions) (all bool, err error) {
	if a.Later > 0 {
		w.later(s.Workflow.Name, s.Rollout.Group, a.Later)
		return true, nil
	}
	if err := w.settle(ctx, s, a.Settle); err != nil || !a.Opens {
		return true, err
	}
	_, err = w.reader.refresh(ctx, s)
	return false, err
}

// begin does what nodes begin with, and notes in s what became of each: begun,
// refused or held, so that it is not begun again. It returns the releases at which
// it was overtaken, and what went wrong.
func (w *writer) begin(ctx context.Context, s *seen, a execute.Actions) (overtaken []execute.Key, failures []error) {
	var do []func() begun
	for _, x := range a.Prepare {
		do = append(do, func() begun { return w.prepare(ctx, s, x) })
	}
	for _, x := range a.Apply {
		do = append(do, func() begun { return w.apply(ctx, s, x) })
	}
	for _, x := range a.Delete {
		do = append(do, func() begun { return w.remove(ctx, s, x) })
	}
	for _, x := range a.Run {
		do = append(do, func() begun { return w.run(ctx, s, x) })
	}
	results := make([]begun, len(do))
	var work sync.WaitGroup
	slots := make(chan struct{}, parallelCalls)
	for i := range do {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			results[i] = do[i]()
		})
	}
	work.Wait()

	for _, b := range results {
		refused, isRefused := errors.AsType[refusal](b.err)
		switch {
		case b.overtaken:
			overtaken = append(overtaken, b.key)
		case b.err == nil:
			b.note()
		case isRefused:
			s.Refused[b.task] = "cannot be written: " + refused.Error()
		default:
			s.Held[b.task] = true
			failures = append(failures, b.err)
		}
	}
	return overtaken, failures
}

// verdict is what went wrong. What may be waited for is told only where nothing
// else is: a real failure counts as a failed attempt.
func verdict(failures []error) error {
	var real []error
	for _, err := range failures {
		if _, waiting := events.RetryDelay(err); !waiting {
			real = append(real, err)
		}
	}
	if len(real) > 0 {
		return errors.Join(real...)
	}
	return errors.Join(failures...)
}
