package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// Twenty edits in quick succession end in the last one: every release has its values,
// and no older generation was rolled out after a newer one.
func TestTwentyEdits(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "edited"
	create(t, chain(name, s.URL, 3))
	for i := range 20 {
		update(t, name, func(g *v1alpha1.ApplicationGroup) {
			for j := range g.Spec.Applications {
				g.Spec.Applications[j].Spec.Release.Values = values(t, map[string]any{"message": fmt.Sprint("edit ", i)})
			}
		})
	}
	g := awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	for object, content := range configMaps(t, name) {
		if got := content.(map[string]any)["data"].(map[string]string)["message"]; got != "edit 19" {
			t.Errorf("%s says %q, not the last edit", object, got)
		}
	}
	var newest int64
	for _, f := range facts(t, name) {
		if _, ok := f.Data.(events.WorkflowSubmitted); !ok {
			continue
		}
		if f.Rollout.Generation < newest {
			t.Errorf("generation %d was submitted after %d", f.Rollout.Generation, newest)
		}
		newest = f.Rollout.Generation
	}
	if newest != g.Generation {
		t.Errorf("the last workflow is of generation %d, the group's is %d", newest, g.Generation)
	}
	once(t, name)
}

// The reverse workflow deleted by hand: the group still goes, and everything of it
// (behaviour 9).
func TestReverseWorkflowDeletedByHand(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "unhanded"
	create(t, chain(name, s.URL, 12))
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := env.client.Delete(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "a reverse workflow to delete", func(ctx context.Context) error {
		for _, wf := range workflows(t, name) {
			if wf.Labels[v1alpha1.LabelWorkflowType] == string(events.WorkflowReverse) {
				return env.client.Delete(ctx, &wf)
			}
		}
		return errors.New("there is none")
	})
	eventually(t, 90*time.Second, "the group to go", func(ctx context.Context) error {
		err := env.client.Get(ctx, client.ObjectKey{Name: name}, g)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New(conditions(g)))
	})
	nothingLeft(t, name)
	if left := configMaps(t, name); len(left) != 0 {
		t.Errorf("objects left: %v", names(left))
	}
}
