package groupstatus

import (
	"maps"

	"orkestra.dev/api/v1alpha1"
)

// joined are the applications of a group's status, in the order of its spec: the part that
// s has of each, and the other one as the group has it. They are nil where s has none.
func joined(group *v1alpha1.ApplicationGroup, s Status) []v1alpha1.ApplicationStatus {
	if s.Charts == nil && s.Releases == nil {
		return nil
	}
	there := byName(group.Status.Applications)
	charts, releases := there, there
	if s.Charts != nil {
		charts = byName(s.Charts)
	}
	if s.Releases != nil {
		releases = byName(s.Releases)
	}
	out := []v1alpha1.ApplicationStatus{}
	for i := range group.Spec.Applications {
		name := group.Spec.Applications[i].Name
		chart, release := charts[name], releases[name]
		app := v1alpha1.ApplicationStatus{Name: name, ChartStatus: both(chart.ChartStatus, release.ChartStatus)}
		subcharts := map[string]v1alpha1.ChartStatus{}
		for _, part := range []map[string]v1alpha1.ChartStatus{chart.Subcharts, release.Subcharts} {
			for name := range part {
				subcharts[name] = both(chart.Subcharts[name], release.Subcharts[name])
			}
		}
		// What neither of them has to say anything of is gone.
		maps.DeleteFunc(subcharts, func(_ string, c v1alpha1.ChartStatus) bool { return !saysChart(c) && !saysRelease(c) })
		if len(subcharts) > 0 {
			app.Subcharts = subcharts
		}
		if saysChart(app.ChartStatus) || saysRelease(app.ChartStatus) || len(subcharts) > 0 {
			out = append(out, app)
		}
	}
	return out
}

// both is the stager's part of one, and the watcher's of the other.
func both(chart, release v1alpha1.ChartStatus) v1alpha1.ChartStatus {
	release.Chart, release.Version, release.Staged, release.Error = chart.Chart, chart.Version, chart.Staged, chart.Error
	return release
}

func saysChart(c v1alpha1.ChartStatus) bool {
	return c.Chart != "" || c.Version != "" || c.Staged || c.Error != ""
}

func saysRelease(c v1alpha1.ChartStatus) bool {
	return c.Phase != "" || c.LastTransitionTime != nil || len(c.Conditions) > 0
}

func byName(apps []v1alpha1.ApplicationStatus) map[string]v1alpha1.ApplicationStatus {
	out := make(map[string]v1alpha1.ApplicationStatus, len(apps))
	for _, app := range apps {
		out[app.Name] = app
	}
	return out
}
