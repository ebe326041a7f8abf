package stager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// announced is how far back a chart is announced that this process has not seen before.
// It is less than the day for which the stream knows an event again by its id: after a
// restart, or by another replica, a chart is announced once more, and stored once.
const announced = 20 * time.Hour

// announcer says which charts are new in ChartMuseum, whoever pushed them. ChartMuseum
// tells nobody by itself, so it is asked now and then.
type announcer struct {
	museum interface {
		list(ctx context.Context, tenant string) ([]entry, error)
	}
	*stager
	say   func(ctx context.Context, facts ...events.Fact) error
	every time.Duration
	// tenants beside those of the groups.
	tenants []string
	// said are the charts of the last look that were new.
	said map[events.ChartPushed]bool
}

// run looks now and then, until it is told to stop.
func (a *announcer) run(ctx context.Context) error {
	a.nowAndThen(ctx, a.every, "not all new charts were announced", a.look)
	return nil
}

// look at every tenant once. A chart that cannot be announced now is at the next look.
func (a *announcer) look(ctx context.Context) error {
	var groups v1alpha1.ApplicationGroupList
	if err := a.client.List(ctx, &groups); err != nil {
		return fmt.Errorf("listing groups: %w", err)
	}
	tenants := slices.Clone(a.tenants)
	for i := range groups.Items {
		tenants = append(tenants, groups.Items[i].Name)
	}
	slices.Sort(tenants)
	said, since := map[events.ChartPushed]bool{}, a.now().Add(-announced)
	var errs []error
	for _, tenant := range slices.Compact(tenants) {
		entries, err := a.museum.list(ctx, tenant)
		if err != nil {
			errs = append(errs, fmt.Errorf("listing the charts of %s: %w", tenant, err))
			continue
		}
		for _, pushed := range pushedSince(tenant, entries, since) {
			if !a.said[pushed] {
				if err := a.say(ctx, events.New(events.Rollout{}, pushed)); err != nil {
					errs = append(errs, err)
					continue
				}
			}
			said[pushed] = true
		}
	}
	a.said = said
	return errors.Join(errs...)
}

// pushedSince are the charts of a tenant that were pushed after a time, oldest first.
func pushedSince(tenant string, entries []entry, since time.Time) []events.ChartPushed {
	recent := slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return !e.Created.After(since) })
	slices.SortStableFunc(recent, func(a, b entry) int { return a.Created.Compare(b.Created) })
	var pushed []events.ChartPushed
	for _, e := range recent {
		pushed = append(pushed, events.ChartPushed{Tenant: tenant, Chart: e.Name, Version: e.Version, Digest: "sha256:" + e.Digest})
	}
	return pushed
}
