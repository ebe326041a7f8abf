package retention_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/pkg/events"
	"orkestra.dev/services/stager/retention"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const grace = 10 * time.Minute

func TestDecide(t *testing.T) {
	const mark, unmark, remove, nothing = "mark", "unmark", "delete", ""
	for name, c := range map[string]struct {
		promise       string
		chart         retention.Chart
		settled, used bool
		want          string
	}{
		"Used":          {"what is referred to stays", retention.Chart{}, true, true, nothing},
		"Unused":        {"what is not is marked", retention.Chart{}, true, false, mark},
		"MarkedNow":     {"and stays for a while", retention.Chart{UnusedSince: now.Add(-grace + time.Second)}, true, false, nothing},
		"MarkedLong":    {"and then goes", retention.Chart{UnusedSince: now.Add(-grace)}, true, false, remove},
		"UsedAgain":     {"unless it is needed again", retention.Chart{UnusedSince: now.Add(-grace)}, true, true, unmark},
		"NotSettled":    {"of a group whose rollout is under way nothing is marked", retention.Chart{}, false, false, nothing},
		"UnsettledMark": {"and what is marked is kept", retention.Chart{UnusedSince: now.Add(-grace)}, false, false, unmark},
		"Leaving":       {"what is being deleted is left alone", retention.Chart{UnusedSince: now.Add(-grace), Leaving: true}, true, false, nothing},
		"FromTomorrow":  {"a clock that is behind deletes nothing", retention.Chart{UnusedSince: now.Add(time.Hour)}, true, false, nothing},
	} {
		t.Run(name, func(t *testing.T) {
			c.chart.Name, c.chart.Group = "chart", "uid"
			d := retention.Decide(retention.State{
				Charts:  []retention.Chart{c.chart},
				Settled: map[string]bool{"uid": c.settled},
				Used:    map[string]bool{"chart": c.used},
			}, now, grace)
			got := ""
			for what, list := range map[string][]retention.Chart{mark: d.Mark, unmark: d.Unmark, remove: d.Delete} {
				if len(list) > 0 {
					got += what
				}
			}
			if got != c.want {
				t.Errorf("%s: got %q, want %q", c.promise, got, c.want)
			}
		})
	}
}

func TestArchives(t *testing.T) {
	old, young := now.Add(-grace), now.Add(-grace+time.Second)
	stored := map[retention.Archive]time.Time{
		{Name: "web", Version: "1.0.0"}: old, {Name: "web", Version: "2.0.0"}: old, {Name: "api", Version: "1.0.0"}: old,
		{Name: "web", Version: "3.0.0"}: young,
	}
	charts := []retention.Chart{
		{Group: "uid", Archive: retention.Archive{Name: "web", Version: "2.0.0"}, Leaving: true},
		{Group: "other", Archive: retention.Archive{Name: "api", Version: "1.0.0"}},
	}
	want := []retention.Archive{{Name: "api", Version: "1.0.0"}, {Name: "web", Version: "1.0.0"}}
	if diff := cmp.Diff(want, retention.Archives(stored, charts, "uid", "group", now, grace)); diff != "" {
		t.Errorf("what no HelmChart of the group names goes, and what was pushed just now stays (-want +got):\n%s", diff)
	}
}

func TestRevisionOf(t *testing.T) {
	r, err := retention.RevisionOf([]byte(`{"rollout":{"group":"g","uid":"u","generation":3,"requestedAt":"now"},"spec":{"applications":[]},
		"staged":[{"name":"a","pieces":[{"helmChart":"one"},{"helmChart":"two"}]},{"pieces":[{"helmChart":"three"}]}]}`))
	want := retention.Revision{
		Rollout:    events.Rollout{Group: "g", UID: "u", Generation: 3, RequestedAt: "now"},
		HelmCharts: []string{"one", "two", "three"},
	}
	if diff := cmp.Diff(want, r); diff != "" || err != nil {
		t.Errorf("(-want +got):\n%s%v", diff, err)
	}
	if _, err := retention.RevisionOf([]byte(`[]`)); err == nil {
		t.Error("what is no revision is an error: it might need anything")
	}
}

func TestLost(t *testing.T) {
	a := func(name string) retention.Archive { return retention.Archive{Name: name, Version: "1"} }
	chart := func(group, name string, leaving bool) retention.Chart {
		return retention.Chart{Group: group, Archive: a(name), Leaving: leaving}
	}
	got := retention.Lost(map[retention.Archive]time.Time{a("there"): {}}, []retention.Chart{
		chart("g", "there", false), chart("g", "z", false), chart("g", "lost", false), chart("g", "lost", false), chart("g", "going", true), chart("other", "theirs", false),
	}, "g")
	if diff := cmp.Diff([]retention.Archive{a("lost"), a("z")}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
