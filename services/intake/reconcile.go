package intake

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupevent"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/intake/admit"
)

const (
	fieldManager = admit.FieldManager

	// lookAgain is when a deletion is looked at again should no event wake us.
	lookAgain = 5 * time.Second
	// answerTime is how long the compiler may take to answer group.deleting before
	// it is asked again, as a new rollout.
	answerTime = 30 * time.Second
	// soon is when to look again where another replica was faster.
	soon = time.Second
)

// Workflows are read as metadata: all that the intake wants of them are labels
// that Argo and the compiler put there.
var workflowList = schema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: "WorkflowList"}

const (
	labelCompleted = "workflows.argoproj.io/completed"
	labelPhase     = "workflows.argoproj.io/phase"
)

type reconciler struct {
	client client.Client
	// live reads from the API server, cached from informers also what client does not.
	live, cached client.Reader
	namespace    string
	say          func(context.Context, ...events.Fact) error
	// admission: the webhook runs that notes who changes a group.
	admission bool
	log       *slog.Logger
	now       func() time.Time
	// held are the groups whose acceptance is not yet written.
	held groupstatus.Held
}

// Reconcile looks at one group: observe, decide, act.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	state, err := r.look(ctx, r.client, r.cached, req.Name)
	if apierrors.IsNotFound(err) {
		r.held.Forget(req.Name)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	return r.act(ctx, state, admit.Next(state))
}

// look observes a group, and what it refers to, from where it is told.
func (r *reconciler) look(ctx context.Context, groups, references client.Reader, name string) (admit.State, error) {
	group := &v1alpha1.ApplicationGroup{}
	if err := groups.Get(ctx, client.ObjectKey{Name: name}, group); err != nil {
		return admit.State{}, err
	}
	return r.observe(ctx, references, group)
}

// observe a group that was read just now.
func (r *reconciler) observe(ctx context.Context, references client.Reader, group *v1alpha1.ApplicationGroup) (admit.State, error) {
	s := admit.State{Group: group, Rollout: groupstatus.RolloutOf(group), Now: r.now()}
	var err error
	if group.DeletionTimestamp.IsZero() {
		s.Versions, err = r.versions(ctx, references, group)
		return s, err
	}
	s.Overdue = s.Now.Sub(deletionAsked(group)) > answerTime
	releases, err := r.releases(ctx, group)
	if err != nil {
		return s, err
	}
	s.Releases = len(releases)
	if s.Workflows, err = r.workflows(ctx, group); err != nil {
		return s, err
	}
	s.Disowned, err = r.disowned(ctx, group)
	return s, err
}

// releases of the group, this one by UID.
func (r *reconciler) releases(ctx context.Context, group *v1alpha1.ApplicationGroup) ([]helmv2.HelmRelease, error) {
	var releases helmv2.HelmReleaseList
	if err := r.live.List(ctx, &releases, owned(group)); err != nil {
		return nil, fmt.Errorf("listing the releases of group %s: %w", group.Name, err)
	}
	return slices.DeleteFunc(releases.Items, func(hr helmv2.HelmRelease) bool {
		return hr.Annotations[v1alpha1.AnnotationGroupUID] != string(group.UID)
	}), nil
}

// workflows of the group, this one by UID.
func (r *reconciler) workflows(ctx context.Context, group *v1alpha1.ApplicationGroup) ([]admit.Workflow, error) {
	workflows := &metav1.PartialObjectMetadataList{}
	workflows.SetGroupVersionKind(workflowList)
	if err := r.live.List(ctx, workflows, owned(group), client.InNamespace(r.namespace)); err != nil {
		return nil, fmt.Errorf("listing the workflows of group %s: %w", group.Name, err)
	}
	var out []admit.Workflow
	for _, wf := range workflows.Items {
		var rollout events.Rollout
		if err := json.Unmarshal([]byte(wf.Annotations[v1alpha1.AnnotationRollout]), &rollout); err != nil {
			continue // not of our making, whatever its labels say
		}
		if rollout.UID != string(group.UID) {
			continue
		}
		out = append(out, admit.Workflow{
			Name:      wf.Name,
			Type:      events.WorkflowType(wf.Labels[v1alpha1.LabelWorkflowType]),
			Rollout:   rollout,
			Finished:  wf.Labels[labelCompleted] == "true",
			Succeeded: wf.Labels[labelPhase] == "Succeeded",
		})
	}
	return out, nil
}

// owned selects what is made for the group, and for those before it of that name.
func owned(group *v1alpha1.ApplicationGroup) client.MatchingLabels {
	return client.MatchingLabels{v1alpha1.LabelOwner: v1alpha1.Shorten(group.Name, v1alpha1.MaxLabel)}
}

// deletionAsked is when the deletion was asked for last: by whoever deleted the group, or by us.
func deletionAsked(group *v1alpha1.ApplicationGroup) time.Time {
	at := group.DeletionTimestamp.Time
	if again, err := time.Parse(time.RFC3339Nano, group.Annotations[v1alpha1.AnnotationRequestedAt]); err == nil && again.After(at) {
		return again
	}
	return at // what a user wrote there need not be a time
}

func (r *reconciler) act(ctx context.Context, s admit.State, d admit.Decision) (ctrl.Result, error) {
	group := s.Group
	log := r.log.With("group", group.Name, "generation", group.Generation, "action", d.Action)
	switch d.Action {
	case admit.Nothing:
		return ctrl.Result{}, nil

	case admit.AddFinalizer:
		if err := r.addFinalizer(ctx, group); err != nil {
			return ctrl.Result{}, fmt.Errorf("adding the finalizer to group %s: %w", group.Name, err)
		}
		// The change of the finalizers wakes us again, but a look now saves the way
		// round.
		controllerutil.AddFinalizer(group, v1alpha1.Finalizer)
		return r.act(ctx, s, admit.Next(s))

	case admit.Refuse:
		log.Info("refused", "why", d.Why)
		if err := r.accepted(ctx, group, metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec, d.Why); err != nil {
			return ctrl.Result{}, err
		}
		return ctrl.Result{}, r.sayOne(ctx, s.Rollout, events.GroupRejected{Reason: v1alpha1.ReasonInvalidSpec, Message: d.Why},
			admit.Origin(group, s.Rollout, r.admission).Event)

	case admit.Suspend:
		origin := admit.Origin(group, s.Rollout, r.admission)
		if err := r.sayOne(ctx, s.Rollout, events.GroupSuspended{Origin: origin}, origin.Event); err != nil {
			return ctrl.Result{}, err
		}
		log.Info("suspended")
		return ctrl.Result{}, r.accepted(ctx, group, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "the spec can be rolled out, and is held by spec.suspend")

	case admit.Record:
		return r.record(ctx, s)

	case admit.Request:
		return r.request(ctx, group.Name)

	case admit.Announce:
		// First the event: the condition can follow while the stager works.
		if err := r.announce(ctx, s); err != nil {
			return ctrl.Result{}, err
		}
		log.Info("announced", "event", events.New(s.Rollout, events.GroupDesired{}).EventID())
		if left := r.held.Left(group, groupstatus.IntakesTurn, r.now()); left > 0 {
			if d.Again > 0 {
				left = min(left, d.Again)
			}
			return ctrl.Result{RequeueAfter: left}, nil
		}
		return ctrl.Result{RequeueAfter: d.Again}, r.accepted(ctx, group, metav1.ConditionTrue, v1alpha1.ReasonAccepted, "the spec can be rolled out")

	case admit.AnnounceDeletion:
		origin := admit.Origin(group, s.Rollout, r.admission)
		return ctrl.Result{RequeueAfter: lookAgain}, r.sayOne(ctx, s.Rollout, events.GroupDeleting{Origin: origin}, origin.Event)

	case admit.AskAgain:
		return r.askAgain(ctx, s)

	case admit.Wait:
		return ctrl.Result{RequeueAfter: lookAgain}, nil

	case admit.Force:
		return r.force(ctx, s)

	case admit.RecordOrphan:
		return r.recordOrphan(ctx, s)

	case admit.Orphan:
		return r.orphan(ctx, s)

	case admit.Release:
		return r.release(ctx, s, groupevent.Event{
			Type: corev1.EventTypeNormal, Reason: eventRemoved, Key: string(group.UID),
			Message: "everything that was made for the group is gone",
		})
	}
	return ctrl.Result{}, fmt.Errorf("group %s: unknown action %q", group.Name, d.Action)
}

// announce says what is desired.
func (r *reconciler) announce(ctx context.Context, s admit.State) error {
	origin := admit.Origin(s.Group, s.Rollout, r.admission)
	return r.sayOne(ctx, s.Rollout, events.GroupDesired{Origin: origin}, origin.Event)
}

// asked announces a group right after it was asked for, as it was written. The informer
// tells of it as well, a moment later, and finds it said.
func (r *reconciler) asked(ctx context.Context, group *v1alpha1.ApplicationGroup) {
	s, err := r.observe(ctx, r.cached, group)
	if err == nil && admit.Next(s).Action == admit.Announce {
		err = r.announce(ctx, s)
	}
	if err != nil {
		r.log.InfoContext(ctx, "what was asked for is said when the informer tells of it", "group", group.Name, "error", err)
	}
}

// askAgain makes the deletion a new rollout.
func (r *reconciler) askAgain(ctx context.Context, s admit.State) (ctrl.Result, error) {
	r.log.InfoContext(ctx, "asking again for the deletion", "group", s.Group.Name, "generation", s.Group.Generation, "releases", s.Releases)
	again := admit.Decision{RequestedAt: s.Now.UTC().Format(time.RFC3339Nano)}
	switch err := r.annotate(ctx, s.Group, again); {
	case apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: lookAgain}, nil // another replica asks, or the group is being written
	case client.IgnoreNotFound(err) != nil:
		return ctrl.Result{}, fmt.Errorf("asking again for the deletion of group %s: %w", s.Group.Name, err)
	}
	return ctrl.Result{RequeueAfter: answerTime}, nil
}

// sayOne says a fact, and the id of the event that led to it where there is one; one
// that is superseded already need not be said.
func (r *reconciler) sayOne(ctx context.Context, rollout events.Rollout, p events.Payload, cause string) error {
	f := events.New(rollout, p)
	f.CausationID = cause
	err := r.say(ctx, f)
	if err == nil || events.IsSuperseded(err) {
		return nil
	}
	return fmt.Errorf("saying %s of group %s: %w", p.EventType(), rollout.Group, err)
}

func (r *reconciler) accepted(ctx context.Context, group *v1alpha1.ApplicationGroup, status metav1.ConditionStatus, reason, message string) error {
	_, err := groupstatus.Apply(ctx, r.client, fieldManager, group, groupstatus.Status{Conditions: []metav1.Condition{{
		Type: v1alpha1.ConditionAccepted, Status: status, Reason: reason, Message: message,
	}}})
	return err
}
