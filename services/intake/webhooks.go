package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/intake/receive"
)

// indexCharts finds the groups that use a chart, by receive.Key.
const indexCharts = "charts"

// chartsOf is the index of groups by the charts that they use.
func chartsOf(o client.Object) []string {
	if group, ok := o.(*v1alpha1.ApplicationGroup); ok {
		return receive.Keys(group)
	}
	return nil
}

// Reasons of the Kubernetes events of a Receiver.
const (
	eventRequested     = "Requested"
	eventDeployed      = "Deployed"
	eventDeployRefused = "DeployRefused"
	eventDryRun        = "DryRun"
)

// reasonDeployRefused is the reason of the dead letter of a delivery with a deploy request
// that was refused.
const reasonDeployRefused = "DeployRefused"

// tries is how often a group is written that others write too, before the event waits.
const tries = 5

// webhooks does what deliveries ask for.
type webhooks struct {
	// client reads groups and Receivers from informers, live from the API server.
	client    client.Client
	live      client.Reader
	namespace string
	// tell makes a Kubernetes event about a Receiver and, where that is not nil, a group.
	tell func(receiver, group runtime.Object, eventType, reason, message string)
	// asked hears of each group that was asked for, as it was written.
	asked func(context.Context, *v1alpha1.ApplicationGroup)
	log   *slog.Logger
	now   func() time.Time

	// turns of the deliveries that wait for a group.
	turns turns
	// telling bounds what tell is given.
	telling telling

	mu    sync.Mutex
	heard receive.Mark
}

// delivery is one that is being done.
type delivery struct {
	events.WebhookReceived
	id       string
	mark     receive.Mark
	receiver *v1alpha1.Receiver
	// heard is the last event that this replica had heard of.
	heard receive.Mark
	dry   bool
}

// handle a delivery: first what was asked for, then what was pushed.
func (w *webhooks) handle(ctx context.Context, f events.Fact, p events.WebhookReceived) error {
	d := delivery{WebhookReceived: p, id: f.EventID(), mark: receive.Mark{Sequence: f.Sequence, Time: f.Time}}
	d.heard = w.hear(d.mark)
	var err error
	if d.receiver, err = w.receiver(ctx, p); err != nil {
		return err
	}
	d.dry = p.DryRun || d.receiver.Spec.DryRun
	var errs []error
	for _, request := range p.Deploys {
		errs = append(errs, w.deploy(ctx, d, request))
	}
	wait, err := w.pushed(ctx, d)
	return outcome(append(errs, err), wait)
}

// outcome of a delivery: a refusal is the last word only where nothing is left to do.
func outcome(errs []error, wait time.Duration) error {
	var refused, failed []error
	for _, err := range errs {
		if events.IsTerminal(err) {
			refused = append(refused, err)
		} else if err != nil {
			failed = append(failed, err)
		}
	}
	switch {
	case len(failed) > 0:
		return errors.Join(failed...)
	case wait > 0:
		return events.RetryAfter(wait, nil)
	case len(refused) > 0:
		return events.Terminal(reasonDeployRefused, errors.Join(refused...))
	}
	return nil
}

// hear notes an event, and gives the last one of all that were noted.
func (w *webhooks) hear(m receive.Mark) receive.Mark {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = w.heard.Later(m)
	return w.heard
}

// receiver of a delivery, as it is now. An informer may be behind, and is not believed
// where it does not have it.
func (w *webhooks) receiver(ctx context.Context, p events.WebhookReceived) (*v1alpha1.Receiver, error) {
	r := &v1alpha1.Receiver{}
	key := client.ObjectKey{Namespace: p.Namespace, Name: p.Receiver}
	err := w.client.Get(ctx, key, r)
	if apierrors.IsNotFound(err) || err == nil && string(r.UID) != p.ReceiverUID {
		err = w.live.Get(ctx, key, r)
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, events.Superseded("the deletion of receiver " + key.String())
	case err != nil:
		return nil, fmt.Errorf("reading receiver %s: %w", key, err)
	case string(r.UID) != p.ReceiverUID || r.DeletionTimestamp != nil:
		return nil, events.Superseded("another receiver " + key.String())
	case r.Spec.Suspend:
		return nil, events.Superseded("spec.suspend of receiver " + key.String())
	}
	return r, nil
}

// pushed asks for all groups that the delivery is news to; wait is in how long to look
// again at those that were asked for just now.
func (w *webhooks) pushed(ctx context.Context, d delivery) (wait time.Duration, err error) {
	groups := map[string]*v1alpha1.ApplicationGroup{}
	find := func(opts ...client.ListOption) error {
		var list v1alpha1.ApplicationGroupList
		if err := w.client.List(ctx, &list, opts...); err != nil {
			return fmt.Errorf("listing the groups of receiver %s/%s: %w", d.Namespace, d.Receiver, err)
		}
		for i := range list.Items {
			groups[list.Items[i].Name] = &list.Items[i]
		}
		return nil
	}
	if d.Reconcile {
		if err := find(); err != nil {
			return 0, err
		}
	}
	for _, c := range d.Charts {
		if err := find(client.MatchingFields{indexCharts: receive.Key(c.Registry, c.Name)}); err != nil {
			return 0, err
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		in, err := w.request(ctx, d, groups[name])
		errs = append(errs, err)
		if in > 0 && (wait == 0 || in < wait) {
			wait = in
		}
	}
	return wait, errors.Join(errs...)
}

// news says why a delivery is news to a group; empty is that it is none.
func (w *webhooks) news(d delivery, group *v1alpha1.ApplicationGroup) string {
	if group.DeletionTimestamp != nil || group.Spec.Suspend || !receive.Reaches(d.receiver, group, w.namespace) {
		return ""
	}
	if d.Reconcile {
		return "event " + d.Event
	}
	for _, c := range d.Charts {
		if application, ok := receive.Wants(group, c); ok {
			return fmt.Sprintf("chart %s %s, which application %s may have, was pushed to %s", c.Name, c.Version, application, c.Registry)
		}
	}
	return ""
}

// request a rollout of a group. What others write in between is read, and looked at anew.
func (w *webhooks) request(ctx context.Context, d delivery, group *v1alpha1.ApplicationGroup) (wait time.Duration, err error) {
	for range tries {
		why := w.news(d, group)
		if why == "" {
			return 0, nil
		}
		now := w.now()
		next := receive.NextRequest(group, d.mark, now)
		if next.Covered {
			return 0, nil
		}
		if next.Wait > 0 {
			return w.turns.wait(group.Name, group.Annotations[v1alpha1.AnnotationRequestedAt], d.id, next, now), nil
		}
		if d.dry {
			w.say(ctx, d, group, eventDryRun, fmt.Sprintf("would ask for group %s: %s", group.Name, why))
			return 0, nil
		}
		patch := client.MergeFromWithOptions(group.DeepCopy(), client.MergeFromWithOptimisticLock{})
		if err := receive.Ask(group, d.id, d.heard, now); err != nil {
			return 0, fmt.Errorf("asking for group %s: %w", group.Name, err)
		}
		switch err = w.client.Patch(ctx, group, patch, client.FieldOwner(fieldManager)); {
		case err == nil:
			w.asked(ctx, group)
			w.say(ctx, d, group, eventRequested, fmt.Sprintf("asked for group %s: %s", group.Name, why))
			return 0, nil
		case apierrors.IsNotFound(err):
			return 0, nil
		case !apierrors.IsConflict(err):
			return 0, fmt.Errorf("asking for group %s: %w", group.Name, err)
		}
		name := group.Name
		group = &v1alpha1.ApplicationGroup{}
		if err := w.live.Get(ctx, client.ObjectKey{Name: name}, group); err != nil {
			return 0, client.IgnoreNotFound(err)
		}
	}
	return 0, fmt.Errorf("asking for group %s: %w", group.Name, err)
}

// say what was done, to the owner of the Receiver and in the log. What was refused is
// told each time.
func (w *webhooks) say(ctx context.Context, d delivery, group *v1alpha1.ApplicationGroup, reason, message string) {
	kind, level := corev1.EventTypeNormal, slog.LevelInfo
	if reason == eventDeployRefused {
		kind, level = corev1.EventTypeWarning, slog.LevelWarn
	}
	var related runtime.Object
	if group != nil {
		related = group
	}
	if reason == eventDeployRefused || w.telling.may(d.receiver.UID, w.now()) {
		w.tell(d.receiver, related, kind, reason, message)
	}
	w.log.Log(ctx, level, "webhook", "namespace", d.Namespace, "receiver", d.Receiver, "event", d.id, "outcome", reason, "what", message)
}
