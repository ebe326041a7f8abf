// Package retention decides which staged charts are kept: those that a rollback could
// go to, that a HelmRelease installs, or that a rollout under way is about to install.
// What nothing needs is marked first, and goes when it was marked for a while.
package retention

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"orkestra.dev/pkg/events"
)

// Chart is a HelmChart of a group.
type Chart struct {
	// Name and UID of the object, and the version of it that was seen.
	Name, UID, ResourceVersion string
	// Group is the UID of the group that owns it.
	Group string
	// Repository is the name of the group's tenant in ChartMuseum, which is that of the group.
	Repository string
	// Archive that it names in the group's staging repository.
	Archive Archive
	// UnusedSince is the mark; zero where there is none.
	UnusedSince time.Time
	// Leaving: it is being deleted.
	Leaving bool
}

// Archive in a staging repository.
type Archive struct{ Name, Version string }

// State is what was seen. Charts were read first: whoever takes one into use after that
// changes its version, so that it is not deleted.
type State struct {
	Charts []Chart
	// Settled are the groups, by UID, whose current rollout is recorded, so that what it
	// needs is in Used. Of any other nothing is collected.
	Settled map[string]bool
	// Used are the names of the HelmCharts that are referred to.
	Used map[string]bool
}

// Decision on charts, each list sorted by name.
type Decision struct {
	// Mark, or take the mark off.
	Mark, Unmark []Chart
	// Delete what was marked for a while.
	Delete []Chart
}

// Decide what becomes of the charts. One that carries a mark is deleted when it has done
// so for the grace.
func Decide(s State, now time.Time, grace time.Duration) Decision {
	var d Decision
	for _, c := range s.Charts {
		marked := !c.UnusedSince.IsZero()
		switch unused := s.Settled[c.Group] && !s.Used[c.Name]; {
		case c.Leaving:
		case unused && !marked:
			d.Mark = append(d.Mark, c)
		case unused && now.Sub(c.UnusedSince) >= grace:
			d.Delete = append(d.Delete, c)
		case !unused && marked:
			d.Unmark = append(d.Unmark, c)
		}
	}
	for _, list := range [][]Chart{d.Mark, d.Unmark, d.Delete} {
		slices.SortFunc(list, func(a, b Chart) int { return cmp.Compare(a.Name, b.Name) })
	}
	return d
}

// Archives of a settled group that no HelmChart names, also none that is being deleted,
// sorted. One that is younger than the grace may be about to get its HelmChart.
func Archives(stored map[Archive]time.Time, charts []Chart, group, repository string, now time.Time, grace time.Duration) []Archive {
	named := map[Archive]bool{}
	for _, c := range charts {
		// One of nobody was orphaned by an earlier group of the name.
		if c.Group == group || c.Group == "" && c.Repository == repository {
			named[c.Archive] = true
		}
	}
	var old []Archive
	for a, since := range stored {
		if !named[a] && now.Sub(since) >= grace {
			old = append(old, a)
		}
	}
	slices.SortFunc(old, Archive.compare)
	return old
}

// Lost are the archives that HelmCharts of a group name and that are not stored, sorted.
func Lost(stored map[Archive]time.Time, charts []Chart, group string) []Archive {
	var lost []Archive
	for _, c := range charts {
		if _, ok := stored[c.Archive]; !ok && c.Group == group && !c.Leaving && !slices.Contains(lost, c.Archive) {
			lost = append(lost, c.Archive)
		}
	}
	slices.SortFunc(lost, Archive.compare)
	return lost
}

func (a Archive) compare(b Archive) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
}

// Revision is what a ControllerRevision of the compiler needs.
type Revision struct {
	// Rollout that it records.
	Rollout events.Rollout
	// HelmCharts by name.
	HelmCharts []string
}

// RevisionOf reads the data of a ControllerRevision.
func RevisionOf(data []byte) (Revision, error) {
	var recorded struct {
		Rollout events.Rollout             `json:"rollout"`
		Staged  []events.StagedApplication `json:"staged"`
	}
	if err := json.Unmarshal(data, &recorded); err != nil {
		return Revision{}, fmt.Errorf("decoding a revision: %w", err)
	}
	r := Revision{Rollout: recorded.Rollout}
	for _, a := range recorded.Staged {
		for _, p := range a.Pieces {
			r.HelmCharts = append(r.HelmCharts, p.HelmChart)
		}
	}
	return r, nil
}
