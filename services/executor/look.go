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

// look observes one workflow, decides, and acts: releases are begun first, and
// then all nodes that are done, among them those of releases that turned out to be
// ready as they are, are settled together.
//
// Whoever was overtaken looks at everything anew: what it was overtaken by may be
// a newer generation.
func (w *writer) look(ctx context.Context, wake wake) error {
	for range maxConflicts {
		s, err := w.reader.observe(ctx, wake)
		if err != nil {
			return err
		}
		s.Refused, s.Held = map[string]string{}, map[string]bool{}
		overtaken, err := w.proceed(ctx, s)
		if len(overtaken) == 0 {
			return err
		}
		for _, key := range overtaken {
			wake.news = append(wake.news, news{key: key, timed: true})
		}
		wake.group = s.Rollout.Group
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
		switch {
		case a.Superseded != "" && !s.groupRead:
			if err := w.reader.readGroup(ctx, s, s.Rollout.Group); err != nil {
				return nil, err
			}
		case len(a.Apply)+len(a.Delete) > 0:
			lost, failed := w.begin(ctx, s, a)
			if len(lost) > 0 {
				return lost, nil
			}
			failures = append(failures, failed...)
		default:
			if err := w.settle(ctx, s, a.Settle); err != nil {
				failures = append(failures, err)
			}
			if a.Superseded != "" && len(failures) == 0 {
				return nil, events.Superseded(a.Superseded)
			}
			return nil, verdict(failures)
		}
	}
}

// begin writes and deletes releases, and notes in s what became of each: begun,
// refused or held, so that it is not begun again. It returns those at which it was
// overtaken, and what went wrong.
func (w *writer) begin(ctx context.Context, s *seen, a execute.Actions) (overtaken []execute.Key, failures []error) {
	results := make([]begun, len(a.Apply)+len(a.Delete))
	var work sync.WaitGroup
	slots := make(chan struct{}, parallelCalls)
	run := func(i int, do func() begun) {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			results[i] = do()
		})
	}
	for i, apply := range a.Apply {
		run(i, func() begun { return w.apply(ctx, s, apply) })
	}
	for i, remove := range a.Delete {
		run(len(a.Apply)+i, func() begun { return w.remove(ctx, s, remove) })
	}
	work.Wait()

	for _, b := range results {
		refused, isRefused := errors.AsType[refusal](b.err)
		switch {
		case b.overtaken:
			overtaken = append(overtaken, b.key)
		case b.err == nil:
			s.Releases[b.key] = b.have
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
