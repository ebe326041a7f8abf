package intake

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/intake/admit"
)

const (
	fieldManager = "orkestra-intake"

	// lookAgain is when a deletion is looked at again should no event wake us.
	lookAgain = 5 * time.Second
	// answerTime is how long the compiler may take to answer group.deleting before
	// it is asked again, as a new rollout.
	answerTime = 30 * time.Second
)

// Workflows are read as metadata: all that the intake wants of them are labels
// that Argo and the compiler put there.
var workflowList = schema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: "WorkflowList"}

const (
	labelCompleted = "workflows.argoproj.io/completed"
	labelPhase     = "workflows.argoproj.io/phase"
)

type reconciler struct {
	client    client.Client
	live      client.Reader
	namespace string
	say       func(context.Context, ...events.Fact) error
	log       *slog.Logger
}

// Reconcile looks at one group: observe, decide, act.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	state, err := r.observe(ctx, req.Name)
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	action, why := admit.Next(state)
	return r.act(ctx, state, action, why)
}

func (r *reconciler) observe(ctx context.Context, name string) (admit.State, error) {
	group := &v1alpha1.ApplicationGroup{}
	if err := r.client.Get(ctx, client.ObjectKey{Name: name}, group); err != nil {
		return admit.State{}, err
	}
	s := admit.State{Group: group, Rollout: groupstatus.RolloutOf(group)}
	if group.DeletionTimestamp.IsZero() {
		return s, nil
	}
	s.Overdue = time.Since(asked(group)) > answerTime

	owned := client.MatchingLabels{v1alpha1.LabelOwner: group.Name}
	var releases helmv2.HelmReleaseList
	if err := r.live.List(ctx, &releases, owned); err != nil {
		return s, fmt.Errorf("listing the releases of group %s: %w", name, err)
	}
	for _, hr := range releases.Items {
		if hr.Annotations[v1alpha1.AnnotationGroupUID] == string(group.UID) {
			s.Releases++
		}
	}
	workflows := &metav1.PartialObjectMetadataList{}
	workflows.SetGroupVersionKind(workflowList)
	if err := r.live.List(ctx, workflows, owned, client.InNamespace(r.namespace)); err != nil {
		return s, fmt.Errorf("listing the workflows of group %s: %w", name, err)
	}
	for _, wf := range workflows.Items {
		var rollout events.Rollout
		if err := json.Unmarshal([]byte(wf.Annotations[v1alpha1.AnnotationRollout]), &rollout); err != nil {
			continue // not of our making, whatever its labels say
		}
		if rollout.UID != string(group.UID) {
			continue
		}
		s.Workflows = append(s.Workflows, admit.Workflow{
			Type:      events.WorkflowType(wf.Labels[v1alpha1.LabelWorkflowType]),
			Rollout:   rollout,
			Finished:  wf.Labels[labelCompleted] == "true",
			Succeeded: wf.Labels[labelPhase] == "Succeeded",
		})
	}
	return s, nil
}

// asked is when the deletion was asked for last: by whoever deleted the group, or by us.
func asked(group *v1alpha1.ApplicationGroup) time.Time {
	at := group.DeletionTimestamp.Time
	if again, err := time.Parse(time.RFC3339Nano, group.Annotations[v1alpha1.AnnotationRequestedAt]); err == nil && again.After(at) {
		return again
	}
	return at // what a user wrote there need not be a time
}

func (r *reconciler) act(ctx context.Context, s admit.State, action admit.Action, why string) (ctrl.Result, error) {
	group := s.Group
	log := r.log.With("group", group.Name, "generation", group.Generation, "action", action)
	switch action {
	case admit.Nothing:
		return ctrl.Result{}, nil

	case admit.AddFinalizer:
		if err := r.addFinalizer(ctx, group); err != nil {
			return ctrl.Result{}, fmt.Errorf("adding the finalizer to group %s: %w", group.Name, err)
		}
		// The change of the finalizers wakes us again, but a look now saves the way
		// round.
		controllerutil.AddFinalizer(group, v1alpha1.Finalizer)
		action, why := admit.Next(s)
		return r.act(ctx, s, action, why)

	case admit.Refuse:
		log.Info("refused", "why", why)
		if err := r.accepted(ctx, group, metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec, why); err != nil {
			return ctrl.Result{}, err
		}
		return ctrl.Result{}, r.sayOne(ctx, s.Rollout, events.GroupRejected{Reason: v1alpha1.ReasonInvalidSpec, Message: why})

	case admit.Announce:
		// First the event: the condition can follow while the stager works.
		if err := r.sayOne(ctx, s.Rollout, events.GroupDesired{}); err != nil {
			return ctrl.Result{}, err
		}
		log.Info("announced", "event", events.New(s.Rollout, events.GroupDesired{}).EventID())
		return ctrl.Result{}, r.accepted(ctx, group, metav1.ConditionTrue, v1alpha1.ReasonAccepted, "the spec can be rolled out")

	case admit.AnnounceDeletion:
		return ctrl.Result{RequeueAfter: lookAgain}, r.sayOne(ctx, s.Rollout, events.GroupDeleting{})

	case admit.AskAgain:
		log.Info("asking again for the deletion", "releases", s.Releases)
		patch := client.MergeFromWithOptions(group.DeepCopy(), client.MergeFromWithOptimisticLock{})
		if group.Annotations == nil {
			group.Annotations = map[string]string{}
		}
		group.Annotations[v1alpha1.AnnotationRequestedAt] = time.Now().UTC().Format(time.RFC3339Nano)
		if err := r.client.Patch(ctx, group, patch); apierrors.IsConflict(err) {
			return ctrl.Result{RequeueAfter: lookAgain}, nil // another replica asks, or the group is being written
		} else if client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, fmt.Errorf("asking again for the deletion of group %s: %w", group.Name, err)
		}
		return ctrl.Result{RequeueAfter: answerTime}, nil

	case admit.Wait:
		return ctrl.Result{RequeueAfter: lookAgain}, nil

	case admit.Release:
		// First the event: when the finalizer is gone nobody would know to say it.
		if err := r.sayOne(ctx, s.Rollout, events.GroupDeleted{}); err != nil {
			return ctrl.Result{}, err
		}
		if err := r.removeFinalizer(ctx, group); err != nil {
			return ctrl.Result{}, fmt.Errorf("removing the finalizer from group %s: %w", group.Name, err)
		}
		log.Info("released")
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, fmt.Errorf("group %s: unknown action %q", group.Name, action)
}

// sayOne says a fact; one that is superseded already need not be said.
func (r *reconciler) sayOne(ctx context.Context, rollout events.Rollout, p events.Payload) error {
	err := r.say(ctx, events.New(rollout, p))
	if err == nil || events.IsSuperseded(err) {
		return nil
	}
	return fmt.Errorf("saying %s of group %s: %w", p.EventType(), rollout.Group, err)
}

func (r *reconciler) accepted(ctx context.Context, group *v1alpha1.ApplicationGroup, status metav1.ConditionStatus, reason, message string) error {
	return groupstatus.Apply(ctx, r.client, fieldManager, group, groupstatus.Status{Conditions: []metav1.Condition{{
		Type: v1alpha1.ConditionAccepted, Status: status, Reason: reason, Message: message,
	}}})
}
