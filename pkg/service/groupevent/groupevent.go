// Package groupevent tells a person what becomes of an ApplicationGroup, as
// Kubernetes events. An event's name is a function of what it tells, so that two
// replicas, or one whose informer is behind what it wrote itself, make one event.
package groupevent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
)

const (
	// maxNote is how long the message of a Kubernetes event may be, in bytes.
	maxNote = 1024
	// maxGroup is how much of the group's name an event's name has, in characters.
	maxGroup = 200
)

// Event is one thing that a person may care about.
type Event struct {
	// Type is Normal or Warning: corev1.EventTypeNormal, corev1.EventTypeWarning.
	Type string
	// Reason is a CamelCase word.
	Reason string
	// Message for a person; what is too long for an event is cut off.
	Message string
	// Key tells apart the events of one reason that a group may have: a rollout, a
	// workflow. An event of the same reason and key is told once.
	Key string
}

// Tell makes the event, in the namespace where those of cluster-scoped objects are. An
// event that is there already was told.
func Tell(ctx context.Context, c client.Writer, component string, group *v1alpha1.ApplicationGroup, e Event, now time.Time) error {
	if err := c.Create(ctx, object(component, group, e, now)); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("telling %s of group %s: %w", e.Reason, group.Name, err)
	}
	return nil
}

func object(component string, group *v1alpha1.ApplicationGroup, e Event, now time.Time) *corev1.Event {
	sum := sha256.Sum256([]byte(strings.Join([]string{string(group.UID), e.Reason, e.Key}, "\x00")))
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault,
			Name:      v1alpha1.Shorten(group.Name, maxGroup) + "." + hex.EncodeToString(sum[:])[:16],
		},
		Source:         corev1.EventSource{Component: component},
		FirstTimestamp: metav1.Time{Time: now},
		LastTimestamp:  metav1.Time{Time: now},
		Count:          1,
		InvolvedObject: corev1.ObjectReference{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.Kind,
			Name: group.Name, UID: group.UID, ResourceVersion: group.ResourceVersion,
		},
		Type: e.Type, Reason: e.Reason, Message: note(e.Message),
	}
}

// note is a message as long as an event may have it.
func note(message string) string {
	if len(message) <= maxNote {
		return message
	}
	return strings.ToValidUTF8(message[:maxNote-3], "") + "..."
}
