// Package groupstatus writes the status of an ApplicationGroup. Each service
// applies what it owns under its own field manager, so that no service can undo
// what another has written, and two replicas write the same. The applications are one
// value, of which the stager and the watcher each write a part: it is written only to a
// group that is as it was read.
package groupstatus

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
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
	// Charts are the stager's part of the applications, Releases the watcher's. Who has a
	// part gives it in each status, though it be empty; nil is who has none.
	Charts, Releases []v1alpha1.ApplicationStatus
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
// A status with a part of the applications is refused, with the API server's conflict,
// where the group has been written since it was given: see ApplyCurrent.
func Apply(ctx context.Context, c client.Client, fieldManager string, group *v1alpha1.ApplicationGroup, s Status) (resourceVersion string, err error) {
	want := desired(group, s)
	said, err := says(group, want, fieldManager)
	if err != nil || said {
		return "", err
	}
	metadata := map[string]any{"name": group.Name, "uid": group.UID}
	whole := want.Applications != nil
	if whole {
		metadata["resourceVersion"] = group.ResourceVersion
	}
	patch, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(),
		"kind":       v1alpha1.Kind,
		"metadata":   metadata,
		"status":     want,
	})
	if err != nil {
		return "", fmt.Errorf("encoding the status of group %s: %w", group.Name, err)
	}
	// Of the answer, which is the whole group, only the version is wanted. And what this package
	// has encoded need not be parsed once more, which finds keys that are there twice: unknown fields are refused in any case.
	live := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: group.Name}}
	live.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind))
	err = c.Status().Patch(ctx, live, client.RawPatch(types.ApplyPatchType, patch),
		client.FieldOwner(fieldManager), client.ForceOwnership, client.FieldValidation(metav1.FieldValidationIgnore))
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err) && !whole:
		// With force, the one other conflict that is left is that of the UID.
		return "", nil
	case err != nil:
		return "", fmt.Errorf("applying the status of group %s as %s: %w", group.Name, fieldManager, err)
	}
	return live.ResourceVersion, nil
}

// ApplyCurrent is Apply that reads the group anew, by current, and tries again where it
// was written meanwhile. Where it is superseded by then there is nobody to tell.
func ApplyCurrent(ctx context.Context, c client.Client, fieldManager string, group *v1alpha1.ApplicationGroup, s Status, current Current) error {
	rollout := RolloutOf(group)
	err := retry.OnError(overtaken, apierrors.IsConflict, func() error {
		if group == nil {
			var err error
			if group, err = current(ctx, rollout); err != nil {
				return err
			}
		}
		_, err := Apply(ctx, c, fieldManager, group, s)
		group = nil
		return err
	})
	if events.IsSuperseded(err) {
		return nil
	}
	return err
}

// Current reads the group of a rollout anew; an error of events.Superseded says that it asks for something else by now.
type Current func(context.Context, events.Rollout) (*v1alpha1.ApplicationGroup, error)

// overtaken is how often, and after how long, what was overtaken by another write is
// tried again: 5 s in all. A rollout has some ten writes of the status.
var overtaken = wait.Backoff{Steps: 10, Duration: 10 * time.Millisecond, Factor: 2, Jitter: 0.1}

// desired is what the group is to say.
func desired(group *v1alpha1.ApplicationGroup, s Status) v1alpha1.ApplicationGroupStatus {
	conditions := make([]metav1.Condition, len(s.Conditions))
	for i, cond := range s.Conditions {
		conditions[i] = complete(cond, group)
	}
	return v1alpha1.ApplicationGroupStatus{
		Applications:            joined(group, s),
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
