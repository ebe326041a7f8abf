package service

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupevent"
)

// reasonDeadLetter is the reason of the Kubernetes event about a dead letter.
const reasonDeadLetter = "DeadLetter"

// tellTime bounds telling of a dead letter, which holds up a consumer.
const tellTime = 5 * time.Second

// tellDeadLetter makes a Kubernetes event of the group whose event a service gave up on.
// The error stays in the letter: it may quote what not everybody may see. One that cannot
// be told is logged; the letter and the metric are there all the same.
func (e *Env) tellDeadLetter(ctx context.Context, service string, f events.Fact, reason string) {
	if f.Rollout.Group == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	group := &v1alpha1.ApplicationGroup{}
	err := e.Manager.GetClient().Get(ctx, client.ObjectKey{Name: f.Rollout.Group}, group)
	if err == nil {
		id := f.EventID()
		err = groupevent.Tell(ctx, e.Manager.GetClient(), "orkestra-"+service, group, groupevent.Event{
			Type: corev1.EventTypeWarning, Reason: reasonDeadLetter, Key: service + "/" + id,
			Message: fmt.Sprintf("%s gave up on event %s of generation %d: %s; see 'orkestra dlq list --group %s'", service, id, f.Rollout.Generation, reason, group.Name),
		}, time.Now())
	}
	if client.IgnoreNotFound(err) != nil {
		e.Log.WarnContext(ctx, "telling of a dead letter", "group", f.Rollout.Group, "event", f.EventID(), "error", err)
	}
}
