package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/intake/receive"
)

const (
	// valuesTime is how long the values of a deploy request are kept that nobody has
	// written: the event that would have is lost, or was said already.
	valuesTime = time.Hour
	// sweepTime is how often those are looked for.
	sweepTime = 10 * time.Minute
)

// refusedError is why a deploy request is not done, for the owner of the Receiver.
type refusedError struct{ error }

func refused(format string, args ...any) error { return refusedError{fmt.Errorf(format, args...)} }

// deploy does one request; a refused one is Terminal, and the others go on.
func (w *webhooks) deploy(ctx context.Context, d delivery, request events.DeployRequest) error {
	want := receive.Deploy{Group: request.Group, Application: request.Application, Version: request.Version}
	values, err := w.values(ctx, d, request)
	if err != nil {
		return err
	}
	want.Values = values
	lost := request.ValuesSecret != "" && values == nil
	if lost {
		want.Values = json.RawMessage("{}") // until it is known whether they were written
	}
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error { return w.write(ctx, d, want, lost) })
	if refusal, ok := errors.AsType[refusedError](err); ok {
		message := fmt.Sprintf("application %s of group %s: %v", request.Application, request.Group, refusal)
		w.say(ctx, d, nil, eventDeployRefused, message)
		return events.Terminal(reasonDeployRefused, errors.New(message))
	}
	if err != nil {
		return fmt.Errorf("deploying application %s of group %s: %w", request.Application, request.Group, err)
	}
	return w.forget(ctx, request.ValuesSecret)
}

// values that were kept for a request; nil where there are none, or none any more.
func (w *webhooks) values(ctx context.Context, d delivery, request events.DeployRequest) (json.RawMessage, error) {
	if request.ValuesSecret == "" {
		return nil, nil
	}
	s := &corev1.Secret{}
	err := w.live.Get(ctx, client.ObjectKey{Namespace: w.namespace, Name: request.ValuesSecret}, s)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the values of a deploy request: %w", err)
	}
	if s.Type != v1alpha1.SecretTypeDelivery || s.Labels[v1alpha1.LabelDelivery] != d.ReceiverUID || len(s.Data[keyValues]) == 0 {
		return nil, nil // not what intake keeps for this Receiver
	}
	return s.Data[keyValues], nil
}

// forget the values of a request that is done.
func (w *webhooks) forget(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	s := &corev1.Secret{}
	s.Namespace, s.Name = w.namespace, name
	if err := w.client.Delete(ctx, s); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting the values of a deploy request: %w", err)
	}
	return nil
}

// write what is asked for into the group as it is now. Who may not reach a group is told
// the same as of one that is not there.
func (w *webhooks) write(ctx context.Context, d delivery, want receive.Deploy, lost bool) error {
	group := &v1alpha1.ApplicationGroup{}
	err := w.live.Get(ctx, client.ObjectKey{Name: want.Group}, group)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err != nil || group.DeletionTimestamp != nil || !receive.Reaches(d.receiver, group, w.namespace) {
		return refused("there is no such group, or it is not one that the Receiver may reach: spec.groups")
	}
	if err := receive.Permitted(&d.receiver.Spec, want.Application, want.Version != "", want.Values != nil); err != nil {
		return refusedError{err}
	}
	left := receive.Outdated(group, want, d.mark)
	if left.Version == "" && left.Values == nil {
		w.log.InfoContext(ctx, "webhook", "namespace", d.Namespace, "receiver", d.Receiver, "event", d.id, "outcome", "Superseded", "group", group.Name)
		return nil
	}
	if lost && left.Values != nil {
		return refused("its values are gone, send it again: they are kept for %s", valuesTime)
	}
	changed, err := receive.Change(group, left)
	if err != nil {
		return refusedError{err}
	}
	what := told(left)
	if d.dry {
		w.say(ctx, d, group, eventDryRun, fmt.Sprintf("would write %s of application %s of group %s; that is a change: %t", what, left.Application, group.Name, changed))
		return nil
	}
	if err := receive.Done(group, left, d.mark); err != nil {
		return err
	}
	if changed {
		if err := receive.AskedBy(group, d.id); err != nil {
			return err
		}
	}
	switch err := w.client.Update(ctx, group, client.FieldOwner(fieldManager)); {
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsRequestEntityTooLargeError(err):
		if left.Values != nil { // the API server's words may have them in them
			return refused("the API server does not take %s: %s", what, apierrors.ReasonForError(err))
		}
		return refused("the API server does not take %s: %w", what, err)
	case err != nil:
		return err
	}
	if changed {
		w.asked(ctx, group)
		w.say(ctx, d, group, eventDeployed, fmt.Sprintf("wrote %s of application %s of group %s", what, left.Application, group.Name))
	}
	return nil
}

// told says which fields a request is about, and of values no more than that.
func told(d receive.Deploy) string {
	switch {
	case d.Values == nil:
		return "version " + d.Version
	case d.Version == "":
		return "values"
	}
	return "version " + d.Version + " and values"
}

// sweep deletes values that nobody came for, until ctx is done.
func (w *webhooks) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepTime)
	defer tick.Stop()
	for {
		if err := w.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			w.log.ErrorContext(ctx, "sweeping the values of deploy requests", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (w *webhooks) sweepOnce(ctx context.Context) error {
	var list corev1.SecretList
	if err := w.live.List(ctx, &list, client.InNamespace(w.namespace), client.HasLabels{v1alpha1.LabelDelivery}); err != nil {
		return err
	}
	for i := range list.Items {
		s := &list.Items[i]
		if s.Type != v1alpha1.SecretTypeDelivery || w.now().Sub(s.CreationTimestamp.Time) < valuesTime {
			continue
		}
		if err := w.client.Delete(ctx, s, client.Preconditions{UID: &s.UID}); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}
