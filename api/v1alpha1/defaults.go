package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The defaults of the schema, for those who read a manifest without an API server.
const (
	// DefaultVersion takes the newest version that is not a pre-release.
	DefaultVersion = "*"
	// DefaultRevisionHistoryLimit is how many good revisions of a group are kept.
	DefaultRevisionHistoryLimit int32 = 5
	// DefaultInterval is that of a release.
	DefaultInterval = 5 * time.Minute
	// DefaultTimeout is that of a release. It is not in the schema: a timeout that
	// was not given stays so, as in the original.
	DefaultTimeout = 5 * time.Minute
	// DefaultAuthSecretNamespace is where authSecretRef looks where it names none.
	DefaultAuthSecretNamespace = "default"
)

// SetDefaults fills in what the API server would, from the defaults of the schema.
func (g *ApplicationGroup) SetDefaults() {
	for i := range g.Spec.Applications {
		spec := &g.Spec.Applications[i].Spec
		if spec.Chart.Version == "" {
			spec.Chart.Version = DefaultVersion
		}
		if spec.Release.Interval.Duration == 0 {
			spec.Release.Interval = metav1.Duration{Duration: DefaultInterval}
		}
		for j := range spec.Workflow {
			if spec.Workflow[j].Type == "" {
				spec.Workflow[j].Type = ExecutorHelmRelease
			}
		}
	}
}

// EffectiveTimeout is the timeout of each Helm action and of the step that waits
// for it. A timeout of nothing is none, and so the default: an action that may take
// no time at all could only fail.
func (r *Release) EffectiveTimeout() time.Duration {
	if r.Timeout == nil || r.Timeout.Duration <= 0 {
		return DefaultTimeout
	}
	return r.Timeout.Duration
}
