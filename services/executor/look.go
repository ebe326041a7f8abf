package executor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"orkestra.dev/pkg/events"
	"orkestra.dev/services/executor/execute"
)

// parallelWrites bounds what one look asks of the API server at a time.
const parallelWrites = 16

// look observes one workflow, decides, and acts: releases are begun first, and
// then all nodes that are done, among them those of releases that turned out to be
// ready as they are, are settled together.
func (w *writer) look(ctx context.Context, wake wake) error {
	s, err := w.reader.observe(ctx, wake)
	if err != nil {
		return err
	}
	s.Refused, s.Held = map[string]string{}, map[string]bool{}
	var failures []error
	for range maxConflicts {
		a, err := execute.Next(s.State)
		if err != nil {
			return fmt.Errorf("deciding on workflow %s: %w", wake.workflow, err)
		}
		if len(a.Apply)+len(a.Delete) > 0 {
			failures = append(failures, w.begin(ctx, s, a)...)
			continue
		}
		if err := w.settle(ctx, s, a.Settle); err != nil {
			failures = append(failures, err)
		}
		if a.Superseded != "" && len(failures) == 0 {
			return events.Superseded(a.Superseded)
		}
		return verdict(failures)
	}
	return events.RetryAfter(retryDelay, errors.Join(append(failures, errConflicts)...))
}

// begin writes and deletes releases, and notes in s what became of each.
func (w *writer) begin(ctx context.Context, s *seen, a execute.Actions) []error {
	var mu sync.Mutex
	var results []begun
	var work errgroup.Group
	work.SetLimit(parallelWrites)
	run := func(do func() begun) {
		work.Go(func() error {
			b := do()
			mu.Lock()
			defer mu.Unlock()
			results = append(results, b)
			return nil
		})
	}
	for _, apply := range a.Apply {
		run(func() begun { return w.apply(ctx, s, apply) })
	}
	for _, remove := range a.Delete {
		run(func() begun { return w.remove(ctx, s, remove) })
	}
	if err := work.Wait(); err != nil {
		return []error{err}
	}
	var failures []error
	for _, b := range results {
		refused, isRefused := errors.AsType[refusal](b.err)
		switch {
		case b.err == nil:
			s.Releases[b.key] = b.have
		case isRefused:
			s.Refused[b.task] = "cannot be written: " + refused.Error()
		default:
			s.Held[b.task] = true
			failures = append(failures, b.err)
		}
	}
	return failures
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
