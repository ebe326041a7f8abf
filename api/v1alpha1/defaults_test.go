package v1alpha1_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/api/v1alpha1"
)

func TestSetDefaults(t *testing.T) {
	g := group(
		application("empty", version(""), workflow(v1alpha1.Executor{DAG: dag("e")})),
		application("full", version("1.0.0"),
			release(func(r *v1alpha1.Release) { r.Interval = *duration(time.Hour) }),
			workflow(v1alpha1.Executor{DAG: dag("e"), Type: v1alpha1.ExecutorKeptn})),
	)
	want := g.DeepCopy()
	empty := &want.Spec.Applications[0].Spec
	empty.Chart.Version = "*"
	empty.Release.Interval.Duration = 5 * time.Minute
	empty.Workflow[0].Type = v1alpha1.ExecutorHelmRelease
	g.SetDefaults()
	if diff := cmp.Diff(want, g); diff != "" {
		t.Errorf("what is not given gets its default, and what is given stays (-want +got):\n%s", diff)
	}
}

func TestEffectiveTimeout(t *testing.T) {
	cases := map[string]struct {
		reason  string
		release v1alpha1.Release
		want    time.Duration
	}{
		"NotGiven": {"the default is the original's", v1alpha1.Release{}, 5 * time.Minute},
		"Zero":     {"an action that may take no time could only fail", v1alpha1.Release{Timeout: duration(0)}, 5 * time.Minute},
		"Given":    {"what is given counts", v1alpha1.Release{Timeout: duration(time.Second)}, time.Second},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := tc.release.EffectiveTimeout(); got != tc.want {
				t.Errorf("%s: %s, want %s", tc.reason, got, tc.want)
			}
		})
	}
}

// An interval of zero that reached the API server would count as given, and the
// schema's default would not be applied.
func TestIntervalThatIsNotGivenIsNotSent(t *testing.T) {
	got, err := json.Marshal(v1alpha1.Release{TargetNamespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"targetNamespace":"default"}`, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
