package observe

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"orkestra.dev/api/v1alpha1"
)

// namedReleases are how many releases of a degraded group its condition names.
const namedReleases = 5

// degraded says which releases of a group that is rolled out are not what was rolled out
// any more; empty where all are. A release that is not there counts where it was: the one
// that was deleted, and not the one that this replica has not heard of yet.
func degraded(before v1alpha1.ApplicationGroupStatus, now []v1alpha1.ApplicationStatus) string {
	known := apimeta.IsStatusConditionTrue(before.Conditions, v1alpha1.ConditionDegraded)
	was := releaseStates(before.Applications)
	var bad []string
	look := func(application, subchart string, chart v1alpha1.ChartStatus) {
		name := application
		if subchart != "" {
			name += "/" + subchart
		}
		switch chart.Phase {
		case v1alpha1.ReleaseFailed:
			bad = append(bad, name+" has failed")
		case v1alpha1.ReleaseDeleting:
			bad = append(bad, name+" is being deleted")
		case v1alpha1.ReleasePending:
			if phase := was[[2]string{application, subchart}].Phase; known || phase != "" && phase != v1alpha1.ReleasePending {
				bad = append(bad, name+" is gone")
			}
		case v1alpha1.ReleaseReady, v1alpha1.ReleaseProgressing:
		}
	}
	for _, app := range now {
		look(app.Name, "", app.ChartStatus)
		for _, subchart := range slices.Sorted(maps.Keys(app.Subcharts)) {
			look(app.Name, subchart, app.Subcharts[subchart])
		}
	}
	if more := len(bad) - namedReleases; more > 0 {
		bad = append(bad[:namedReleases], fmt.Sprintf("%d more", more))
	}
	return strings.Join(bad, ", ")
}
