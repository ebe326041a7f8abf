// Package groupstatus writes the status of an ApplicationGroup. Each service
// applies what it owns under its own field manager, so that no service can undo
// what another has written, and two replicas write the same.
package groupstatus

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// maxMessage is what the schema of metav1.Condition takes, in bytes.
const maxMessage = 32 << 10

// Status is all that one field manager has to say of a group. What it leaves out
// it gives up: a condition that it applied before and does not name now goes.
type Status struct {
	// Conditions; ObservedGeneration is the group's where it is not set, and
	// LastTransitionTime is kept from the group while the status stays.
	Conditions []metav1.Condition
	// Applications: the stager speaks of their charts, the watcher of the conditions of
	// their releases.
	Applications []v1alpha1.ApplicationStatus
	// The three marks and the newest workflow; only the watcher sets them.
	ObservedGeneration      int64
	LastSucceededGeneration int64
	LastHandledReconcileAt  string
	Rollout                 *v1alpha1.RolloutStatus
	// LastUnchangedRollout is the ID of the rollout that found nothing to do; only the
	// compiler sets it.
	LastUnchangedRollout string
}

// RolloutOf names the rollout that the group, or its metadata, asks for now.
func RolloutOf(group metav1.Object) events.Rollout {
	return events.Rollout{
		Group:       group.GetName(),
		UID:         string(group.GetUID()),
		Generation:  group.GetGeneration(),
		RequestedAt: group.GetAnnotations()[v1alpha1.AnnotationRequestedAt],
	}
}

// Apply writes s under fieldManager by server-side apply. Nothing is written
// where the group, as given, says all of it already under that manager. A group
// that is gone, or is another one by now (UID), is a success: there is nobody to tell.
// It returns the resourceVersion that the group has with it, or an empty one where nothing was written.
func Apply(ctx context.Context, c client.Client, fieldManager string, group *v1alpha1.ApplicationGroup, s Status) (resourceVersion string, err error) {
	want := desired(group, s)
	said, err := says(group, want, fieldManager)
	if err != nil || said {
		return "", err
	}
	patch, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(),
		"kind":       v1alpha1.Kind,
		"metadata":   map[string]any{"name": group.Name, "uid": group.UID},
		"status":     want,
	})
	if err != nil {
		return "", fmt.Errorf("encoding the status of group %s: %w", group.Name, err)
	}
	live := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: group.Name}}
	err = c.Status().Patch(ctx, live, client.RawPatch(types.ApplyPatchType, patch),
		client.FieldOwner(fieldManager), client.ForceOwnership)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		// With force, the one conflict that is left is that of the UID.
		return "", nil
	case err != nil:
		return "", fmt.Errorf("applying the status of group %s as %s: %w", group.Name, fieldManager, err)
	}
	return live.ResourceVersion, nil
}

// desired is what the group is to say.
func desired(group *v1alpha1.ApplicationGroup, s Status) v1alpha1.ApplicationGroupStatus {
	conditions := make([]metav1.Condition, len(s.Conditions))
	for i, cond := range s.Conditions {
		conditions[i] = complete(cond, group)
	}
	return v1alpha1.ApplicationGroupStatus{
		Applications:            s.Applications,
		ObservedGeneration:      s.ObservedGeneration,
		LastSucceededGeneration: s.LastSucceededGeneration,
		LastHandledReconcileAt:  s.LastHandledReconcileAt,
		Rollout:                 s.Rollout,
		LastUnchangedRollout:    s.LastUnchangedRollout,
		Conditions:              conditions,
	}
}

func complete(c metav1.Condition, group *v1alpha1.ApplicationGroup) metav1.Condition {
	if c.ObservedGeneration == 0 {
		c.ObservedGeneration = group.Generation
	}
	if c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = metav1.Now()
	}
	if old := apimeta.FindStatusCondition(group.Status.Conditions, c.Type); old != nil && old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	// The API refuses a message that is longer; what comes first says most.
	if len(c.Message) > maxMessage {
		c.Message = c.Message[:maxMessage-3] + "..."
	}
	return c
}
