package e2e

import (
	"encoding/json"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
)

// Two owners each apply applications of their own to one group. Neither takes an application from the other unnoticed,
// and the record of who owns what is no longer than that.
func TestTwoOwnersOfAGroup(t *testing.T) {
	const name, other = "owned", "another-team"
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	both := chain(name, s.URL, 2).Spec.Applications
	apply := func(app v1alpha1.Application) error {
		t.Helper()
		raw, err := json.Marshal(app)
		must(t, err)
		var value map[string]any
		must(t, json.Unmarshal(raw, &value))
		o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"applications": []any{value}}}}
		o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind))
		o.SetName(name)
		return env.client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(other))
	}
	mine := chain(name, s.URL, 1)
	create(t, mine)
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)

	must(t, apply(both[1]))
	g := awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	if len(g.Spec.Applications) != 2 || len(g.Status.Applications) != 2 {
		t.Fatalf("the applications of two owners: %d in the spec, %d in the status", len(g.Spec.Applications), len(g.Status.Applications))
	}
	for _, app := range g.Status.Applications {
		if !app.Staged || app.Version != "1.0.0" || app.Phase != v1alpha1.ReleaseReady {
			t.Errorf("the stager and the watcher each have a part of application %s: %+v", app.Name, app.ChartStatus)
		}
	}

	taken := both[0]
	taken.Spec.Release.Values = values(t, map[string]any{"message": "taken over"})
	if err := apply(taken); !apierrors.IsConflict(err) {
		t.Errorf("an application of another owner was changed: %v", err)
	}

	for _, entry := range g.ManagedFields {
		var fields struct {
			Spec struct {
				Applications map[string]map[string]any `json:"f:applications"`
			} `json:"f:spec"`
			Status struct {
				Applications map[string]any `json:"f:applications"`
			} `json:"f:status"`
		}
		must(t, json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields))
		for key, below := range fields.Spec.Applications {
			if len(below) > 0 {
				t.Errorf("%s owns fields of application %s, and not the whole: %v", entry.Manager, key, below)
			}
		}
		if len(fields.Status.Applications) > 0 {
			t.Errorf("%s owns fields of the status of applications: %v", entry.Manager, fields.Status.Applications)
		}
	}
}
