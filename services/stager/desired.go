package stager

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/pkg/service/stored"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/stage"
)

// outcome of one application.
type outcome struct {
	app *stage.Application // nil where it could not be prepared
	err error              // a refusal, or what stops us
}

// outcomes of a group.
type outcomes struct {
	apps []outcome
	err  error // what is not about one application: the staging repository, the HelmCharts
}

// failed tells whether the group cannot be staged.
func (o *outcomes) failed() bool {
	return o.err != nil || slices.ContainsFunc(o.apps, func(a outcome) bool { return a.err != nil })
}

// stop is the first error that is not about charts: the API server is away, or we
// are told to stop. There is nothing to say then; the event comes back.
func (o *outcomes) stop() error {
	errs := []error{o.err}
	for _, a := range o.apps {
		errs = append(errs, a.err)
	}
	for _, err := range errs {
		if err != nil && refusal.Reason(err) == "" {
			return err
		}
	}
	return nil
}

// desired stages a group: prepare all of it, place the pieces, have them fetched.
// Nothing is placed where one application cannot be prepared.
func (s *stager) desired(ctx context.Context, f events.Fact) ([]events.Fact, error) {
	began := s.now()
	group, err := s.current(ctx, f.Rollout)
	if err != nil {
		return nil, err
	}
	told := s.tell(ctx, group)
	o := &outcomes{apps: s.prepare(ctx, group)}
	pushed := 0
	if !o.failed() {
		pushed = s.place(ctx, group.Name, o)
	}
	if !o.failed() {
		o.err = s.provide(ctx, group, o.apps)
	}
	if err := told(o.stop()); err != nil {
		return nil, err
	}
	// That may have taken a while: do not speak for a group that has moved on.
	if err := s.still(ctx, group); err != nil {
		return nil, err
	}
	if o.failed() {
		return s.refuse(ctx, f, group, o)
	}

	apps := make([]stage.Application, len(o.apps))
	pieces := 0
	for i, a := range o.apps {
		apps[i] = *a.app
		pieces += len(a.app.Pieces)
	}
	message := fmt.Sprintf("%d charts of %d applications can be installed", pieces, len(apps))
	// First the event: to write the status of a large group takes the API server longer
	// than anything else here, and the compiler can go on meanwhile.
	err = events.Afterwards(ctx, func(ctx context.Context) error {
		st := statusOf(group, metav1.ConditionTrue, v1alpha1.ReasonStaged, message, o.apps)
		return groupstatus.ApplyLater(ctx, s.client, fieldManager, group, st, groupstatus.StagersTurn, s.current)
	})
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "staged", "group", group.Name, "generation", group.Generation,
		"charts", pieces, "pushed", pushed, "took", s.now().Sub(began).Round(time.Millisecond))
	return []events.Fact{events.New(f.Rollout, stage.Staged(group, apps))}, nil
}

// tell says of a group that was never staged that it is under way, where that takes long
// enough to be seen. It ends with the call of told, which says it also of one that is to
// come back with an error, and returns what is wrong.
func (s *stager) tell(ctx context.Context, group *v1alpha1.ApplicationGroup) (told func(err error) error) {
	if apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionStaged) != nil {
		return func(err error) error { return err }
	}
	say := sync.OnceValue(func() error {
		return s.say(ctx, group, metav1.ConditionUnknown, v1alpha1.ReasonProgressing, "fetching the charts", nil)
	})
	ended, end := make(chan struct{}), make(chan error, 1)
	go func() {
		long := time.NewTimer(notice)
		defer long.Stop()
		select {
		case <-ended:
			end <- nil
		case <-long.C:
			end <- say()
		}
	}()
	return func(err error) error {
		close(ended)
		if problem := <-end; problem != nil || err == nil {
			return errors.Join(err, problem)
		}
		return errors.Join(err, say())
	}
}

// current reads the group live; where it is not what the event is about, the event
// is superseded.
func (s *stager) current(ctx context.Context, r events.Rollout) (*v1alpha1.ApplicationGroup, error) {
	group := &v1alpha1.ApplicationGroup{}
	err := s.client.Get(ctx, client.ObjectKey{Name: r.Group}, group)
	switch {
	case apierrors.IsNotFound(err):
		return nil, events.Superseded("its deletion")
	case err != nil:
		return nil, fmt.Errorf("reading group %s: %w", r.Group, err)
	}
	return group, superseded(group, r)
}

// still asks whether the group, as it was read, is current yet.
func (s *stager) still(ctx context.Context, group *v1alpha1.ApplicationGroup) error {
	now, err := stored.Since(ctx, s.client, v1alpha1.GroupVersion.WithKind(v1alpha1.Kind), client.ObjectKeyFromObject(group), group.ResourceVersion)
	switch {
	case err != nil:
		return fmt.Errorf("reading group %s: %w", group.Name, err)
	case now == nil:
		return events.Superseded("its deletion")
	}
	return superseded(now, groupstatus.RolloutOf(group))
}

// superseded says whether the group asks for something else than r.
func superseded(group metav1.Object, r events.Rollout) error {
	if group.GetDeletionTimestamp() != nil {
		return events.Superseded("its deletion")
	}
	if now := groupstatus.RolloutOf(group); now != r {
		return events.Superseded(now.ID())
	}
	return nil
}

// prepare fetches and splits the charts of all applications.
func (s *stager) prepare(ctx context.Context, group *v1alpha1.ApplicationGroup) []outcome {
	// Whoever asks by a time may know of a chart that was pushed just before.
	since, err := time.Parse(time.RFC3339Nano, group.Annotations[v1alpha1.AnnotationRequestedAt])
	if err != nil {
		since = time.Time{} // what a user wrote there need not be a time
	}
	apps := make([]outcome, len(group.Spec.Applications))
	each(len(apps), func(i int) {
		apps[i].app, apps[i].err = s.prepareOne(ctx, &group.Spec.Applications[i], since)
	})
	return apps
}

// refuse says what cannot be staged. Where the same spec may be staged later the
// event comes back; else the rollout ends here, until somebody changes something.
func (s *stager) refuse(ctx context.Context, f events.Fact, group *v1alpha1.ApplicationGroup, o *outcomes) ([]events.Fact, error) {
	var messages []string
	err, worst := o.err, -1
	if err != nil {
		messages = append(messages, err.Error())
	}
	for i, a := range o.apps {
		if a.err == nil {
			continue
		}
		messages = append(messages, explain(&group.Spec.Applications[i], a.err))
		// What does not heal decides: waiting for the rest would not help.
		if err == nil || refusal.Heals(refusal.Reason(err)) && !refusal.Heals(refusal.Reason(a.err)) {
			err, worst = a.err, i
		}
	}
	reason, message := refusal.Reason(err), strings.Join(messages, "; ")
	if err := s.say(ctx, group, metav1.ConditionFalse, reason, message, o.apps); err != nil {
		return nil, err
	}
	if worst < 0 || refusal.Heals(reason) {
		return nil, events.RetryAfter(backoff(f.Attempt), err)
	}
	s.log.WarnContext(ctx, "not staged", "group", group.Name, "generation", group.Generation, "reason", reason, "message", message)
	app := &group.Spec.Applications[worst]
	return []events.Fact{events.New(f.Rollout, events.ChartsFailed{
		Application: app.Name,
		Chart:       app.Spec.Chart.Name,
		Version:     app.Spec.Chart.Version,
		URL:         redacted(app.Spec.Chart.URL),
		Reason:      reason,
		Message:     explain(app, err),
	})}, nil
}

// explain names what err is about.
func explain(app *v1alpha1.Application, err error) string {
	c := app.Spec.Chart
	return fmt.Sprintf("application %s (chart %s %s of %s): %v", app.Name, c.Name, c.Version, redacted(c.URL), err)
}

func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "a URL that does not parse"
	}
	return u.Redacted()
}

// backoff doubles from 1 s to 2 min: a registry that was restarted is back by
// then, and one that is down for a day is not asked more often.
func backoff(attempt uint64) time.Duration {
	const first, last = time.Second, 2 * time.Minute
	if attempt = max(attempt, 1); attempt > 7 {
		return last
	}
	return min(first<<(attempt-1), last)
}

// say writes all that the stager owns of the status; of applications nothing where apps
// is nil.
func (s *stager) say(ctx context.Context, group *v1alpha1.ApplicationGroup, status metav1.ConditionStatus, reason, message string, apps []outcome) error {
	return groupstatus.ApplyCurrent(ctx, s.client, fieldManager, group, statusOf(group, status, reason, message, apps), s.current)
}

func statusOf(group *v1alpha1.ApplicationGroup, status metav1.ConditionStatus, reason, message string, apps []outcome) groupstatus.Status {
	st := groupstatus.Status{Charts: []v1alpha1.ApplicationStatus{}, Conditions: []metav1.Condition{{
		Type: v1alpha1.ConditionStaged, Status: status, Reason: reason, Message: message,
	}}}
	for i := range apps {
		a := v1alpha1.ApplicationStatus{Name: group.Spec.Applications[i].Name}
		describe(&a, apps[i], status == metav1.ConditionTrue)
		st.Charts = append(st.Charts, a)
	}
	return st
}

func describe(a *v1alpha1.ApplicationStatus, o outcome, staged bool) {
	a.Staged = staged
	if o.err != nil {
		a.Error = o.err.Error()
	}
	if o.app == nil {
		return
	}
	a.Chart, a.Version = o.app.Chart, o.app.Version
	for _, p := range o.app.Pieces {
		if p.Subchart == "" {
			continue
		}
		if a.Subcharts == nil {
			a.Subcharts = map[string]v1alpha1.ChartStatus{}
		}
		a.Subcharts[p.Subchart] = v1alpha1.ChartStatus{Chart: p.Chart, Version: p.SubchartVersion, Staged: staged}
	}
}
