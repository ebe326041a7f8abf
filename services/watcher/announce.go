package watcher

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/service/groupstatus"
)

// The Kubernetes events of the original.
const (
	eventSuccess = "ReconcileSuccess"
	eventError   = "ReconcileError"
)

// maxNote is how long the message of a Kubernetes event may be, in bytes.
const maxNote = 1024

// announce tells a turn of Ready as a Kubernetes event.
func (r *groups) announce(ctx context.Context, group *v1alpha1.ApplicationGroup, status groupstatus.Status) error {
	event := turn(group, status, r.now())
	if event == nil {
		return nil
	}
	if err := r.client.Create(ctx, event); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("telling that group %s turned %s: %w", group.Name, event.Reason, err)
	}
	return nil
}

// turn is the event of a turn of Ready; nil where there is none, or none that is
// told. Its name is a function of the turn, so that two replicas, or one whose
// informer is behind what it wrote itself, make one event.
func turn(group *v1alpha1.ApplicationGroup, status groupstatus.Status, now time.Time) *corev1.Event {
	ready := apimeta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	before := apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || before != nil && before.Status == ready.Status && before.Reason == ready.Reason &&
		before.ObservedGeneration == ready.ObservedGeneration {
		return nil
	}
	event := &corev1.Event{
		Source:         corev1.EventSource{Component: fieldManager},
		FirstTimestamp: metav1.Time{Time: now},
		LastTimestamp:  metav1.Time{Time: now},
		Count:          1,
		InvolvedObject: corev1.ObjectReference{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.Kind,
			Name: group.Name, UID: group.UID, ResourceVersion: group.ResourceVersion,
		},
	}
	switch {
	case ready.Status == metav1.ConditionTrue:
		event.Type, event.Reason, event.Message = corev1.EventTypeNormal, eventSuccess, note(ready.Message)
	case ready.Status == metav1.ConditionFalse && ready.Reason != v1alpha1.ReasonTerminating:
		event.Type, event.Reason, event.Message = corev1.EventTypeWarning, eventError, note(ready.Reason+": "+ready.Message)
	default:
		return nil
	}
	sum := sha256.Sum256([]byte(groupstatus.RolloutOf(group).ID() + " " + string(ready.Status) + " " + ready.Reason))
	event.Namespace = metav1.NamespaceDefault // as for all that has no namespace itself
	event.Name = v1alpha1.Shorten(group.Name, 200) + "." + hex.EncodeToString(sum[:])[:16]
	return event
}

// note is a message as long as an event may have it.
func note(message string) string {
	if len(message) <= maxNote {
		return message
	}
	return strings.ToValidUTF8(message[:maxNote-3], "") + "..."
}
