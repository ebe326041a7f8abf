package observe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan/outcome"
	"orkestra.dev/pkg/service/groupstatus"
)

// undoWindow is how long after a failure the workflow that undoes it may take to
// be there, before the group counts as stalled.
const undoWindow = 15 * time.Second

// World is what is known of a group.
type World struct {
	Group *v1alpha1.ApplicationGroup
	// Workflows that carry the group's name, nodes decompressed.
	Workflows []*wfv1.Workflow
	// Releases that carry the group's name.
	Releases []*helmv2.HelmRelease
	Now      time.Time
}

// Summarize is the watcher's part of the group's status. The duration says when to
// look again though nothing changes; zero is never.
//
// What is once said of a rollout stays: that it succeeded, or failed, is not taken
// back because its workflow was collected, or because another replica has seen
// more of it than this one.
func Summarize(w World) (groupstatus.Status, time.Duration) {
	s := summary{World: w, rollout: groupstatus.RolloutOf(w.Group)}
	for _, wf := range w.Workflows {
		if r, err := RolloutOf(wf); err == nil && r.UID == s.rollout.UID {
			s.runs = append(s.runs, run{wf: wf, rollout: r})
		}
	}
	v := s.ready()
	old := w.Group.Status
	status := groupstatus.Status{
		Releases:                applications(w.Group, w.Releases),
		Rollout:                 s.rolloutStatus(),
		ObservedGeneration:      w.Group.Generation,
		LastSucceededGeneration: old.LastSucceededGeneration,
		LastHandledReconcileAt:  old.LastHandledReconcileAt,
	}
	if v.handled {
		status.LastHandledReconcileAt = s.rollout.RequestedAt
	}
	if v.status == metav1.ConditionTrue {
		status.LastSucceededGeneration = w.Group.Generation
	}
	status.Conditions = append(status.Conditions, s.condition(v1alpha1.ConditionReady, v.status, v.reason, v.message))
	if v.working {
		status.Conditions = append(status.Conditions, s.condition(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonProgressing, cmp.Or(v.doing, v.message)))
	}
	if v.stalled {
		status.Conditions = append(status.Conditions, s.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v.reason, v.message))
	}
	if v.status == metav1.ConditionTrue {
		if text := degraded(old, status.Releases); text != "" {
			status.Conditions = append(status.Conditions, s.condition(v1alpha1.ConditionDegraded, metav1.ConditionTrue, v1alpha1.ReasonReleasesNotReady, text))
		}
	}
	status.Conditions = append(status.Conditions, s.workflows()...)
	return status, v.again
}

// verdict on the group.
type verdict struct {
	status          metav1.ConditionStatus
	reason, message string
	// working: something is being done. stalled: nothing will be until a change.
	working, stalled bool
	// doing is what is being done; empty where message says it.
	doing string
	// handled: this is the end of the rollout.
	handled bool
	again   time.Duration
}

type run struct {
	wf      *wfv1.Workflow
	rollout events.Rollout
}

type summary struct {
	World
	rollout events.Rollout
	runs    []run
}

// ready decides, the first that applies.
func (s summary) ready() verdict {
	if s.Group.DeletionTimestamp != nil {
		return s.terminating()
	}
	refused := s.current(v1alpha1.ConditionAccepted, metav1.ConditionFalse)
	if s.Group.Spec.Suspend && refused == nil {
		return s.held()
	}
	forward := s.forward()
	switch {
	case forward != nil && forward.Status.Successful(), s.unchanged(), s.said(metav1.ConditionTrue, v1alpha1.ReasonSucceeded):
		return verdict{status: metav1.ConditionTrue, reason: v1alpha1.ReasonSucceeded, message: s.succeeded(), handled: true}
	case forward != nil && s.retried(forward):
		return progressing(s.retrying(forward))
	case forward != nil && forward.Status.Fulfilled():
		return s.failed(failureMessage(forward), forward.Status.FinishedAt.Time)
	case s.said(metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed):
		ready := apimeta.FindStatusCondition(s.Group.Status.Conditions, v1alpha1.ConditionReady)
		return s.failed(ready.Message, ready.LastTransitionTime.Time)
	case forward != nil:
		return progressing(s.progress(forward))
	case refused != nil:
		return verdict{status: metav1.ConditionFalse, reason: v1alpha1.ReasonInvalidSpec, message: refused.Message, stalled: true, handled: true}
	}
	if c := s.current(v1alpha1.ConditionStaged, metav1.ConditionFalse); c != nil {
		return s.hindered(c, v1alpha1.ReasonChartPullFailed)
	}
	if c := s.current(v1alpha1.ConditionCompiled, metav1.ConditionFalse); c != nil {
		return s.hindered(c, v1alpha1.ReasonWorkflowTemplateGenerationFailed)
	}
	if s.stands() {
		return verdict{status: metav1.ConditionTrue, reason: v1alpha1.ReasonSucceeded, message: s.succeeded()}
	}
	return progressing(s.stage())
}

// hindered: a rollout does not get as far as a workflow, as c says. Where that heals, it
// takes nothing from a group that stands, which was only to be looked at again.
func (s summary) hindered(c *metav1.Condition, reason string) verdict {
	passing := heals[c.Reason]
	if passing && s.stands() {
		return verdict{status: metav1.ConditionTrue, reason: v1alpha1.ReasonSucceeded, message: s.succeeded(), working: true, doing: c.Message}
	}
	return verdict{status: metav1.ConditionFalse, reason: reason, message: c.Message, working: passing, stalled: !passing, handled: !passing}
}

// stands: what is rolled out is what the spec asks for, and a request to look at it
// again has not yet found anything to do. It may find nothing, time and again, and Ready
// is not to flap for that.
func (s summary) stands() bool {
	return s.current(v1alpha1.ConditionReady, metav1.ConditionTrue) != nil && s.Group.Status.LastSucceededGeneration == s.rollout.Generation
}

// heals are the reasons of Staged and Compiled after which the service tries again by
// itself.
var heals = map[string]bool{
	v1alpha1.ReasonRepositoryUnreachable: true,
	v1alpha1.ReasonStagingUnavailable:    true,
	v1alpha1.ReasonValuesNotFound:        true,
}

// forward is the newest forward workflow of the group's rollout; nil where there is none.
func (s summary) forward() *wfv1.Workflow {
	return s.newest(events.WorkflowForward, func(r run) bool { return r.rollout == s.rollout })
}

// unchanged: the compiler found nothing to do for this very rollout.
func (s summary) unchanged() bool {
	c := s.current(v1alpha1.ConditionCompiled, metav1.ConditionTrue)
	return c != nil && c.Reason == v1alpha1.ReasonUnchanged && s.Group.Status.LastUnchangedRollout == s.rollout.ID()
}

// held is the group while spec.suspend holds it: nothing goes on, and nothing is wrong.
func (s summary) held() verdict {
	message := "nothing is rolled out"
	if last := s.Group.Status.LastSucceededGeneration; last > 0 {
		message = fmt.Sprintf("the last good generation is %d", last)
	}
	if wf := s.newest("", func(r run) bool { return !r.wf.Status.Fulfilled() }); wf != nil {
		message += ", " + s.progress(wf)
	}
	return verdict{status: metav1.ConditionFalse, reason: v1alpha1.ReasonSuspended, message: "held by spec.suspend: " + message}
}

// said reports whether the status holds the end of this very rollout already.
func (s summary) said(status metav1.ConditionStatus, reason string) bool {
	c := s.current(v1alpha1.ConditionReady, status)
	return c != nil && c.Reason == reason && s.Group.Status.LastHandledReconcileAt == s.rollout.RequestedAt &&
		(status != metav1.ConditionTrue || s.Group.Status.LastSucceededGeneration == s.rollout.Generation)
}

// stage is how far the rollout has come before it has a workflow.
func (s summary) stage() string {
	switch {
	case s.current(v1alpha1.ConditionCompiled, metav1.ConditionTrue) != nil:
		return "waiting for the workflow"
	case s.current(v1alpha1.ConditionStaged, metav1.ConditionTrue) != nil:
		return "making the workflow"
	case s.current(v1alpha1.ConditionAccepted, metav1.ConditionTrue) != nil:
		return "staging the charts"
	default:
		return "waiting for the spec to be accepted"
	}
}

// failed: the rollout is over, and the group may still be on its way back.
func (s summary) failed(message string, at time.Time) verdict {
	v := verdict{status: metav1.ConditionFalse, reason: v1alpha1.ReasonWorkflowFailed, message: message, handled: true}
	undo := s.newest("", func(r run) bool { return r.rollout == s.rollout && typeOf(r.wf) != events.WorkflowForward })
	switch left := undoWindow - s.Now.Sub(at); {
	case undo != nil:
		v.working = !undo.Status.Fulfilled()
	case s.Group.Spec.Remediation != nil && s.Group.Spec.Remediation.Strategy == v1alpha1.RemediationNone:
		// Nobody is going to undo it.
	case left > 0:
		v.working, v.again = true, left+10*time.Millisecond
	}
	v.stalled = !v.working
	return v
}

func (s summary) terminating() verdict {
	v := verdict{status: metav1.ConditionFalse, reason: v1alpha1.ReasonTerminating, message: "the releases of the group are going to be removed", working: true}
	if v1alpha1.GoesAlone(s.Group) {
		v.message = "the group goes, and its releases stay"
		return v
	}
	reverse := s.newest(events.WorkflowReverse, func(r run) bool { return r.rollout.Generation == s.rollout.Generation })
	switch {
	case reverse == nil:
	case !reverse.Status.Fulfilled():
		v.message = s.progress(reverse)
	case reverse.Status.Successful():
		v.message = "the releases of the group are removed"
	default:
		v.message, v.working, v.stalled = failureMessage(reverse), false, true
	}
	if stuck := s.stuck(); stuck != "" && !strings.Contains(v.message, stuck) {
		v.message += "; " + stuck
	}
	return v
}

// stuck says which releases of the group are being deleted and do not go, and why.
func (s summary) stuck() string {
	const shown = 3
	var out []string
	for _, hr := range s.Releases {
		if hr.DeletionTimestamp == nil || !owns(s.Group, hr) {
			continue
		}
		if why := kept(hr); why != "" {
			out = append(out, fmt.Sprintf("HelmRelease %s/%s %s", hr.Namespace, hr.Name, why))
		}
	}
	slices.Sort(out)
	if more := len(out) - shown; more > 0 {
		out = append(out[:shown], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, "; ")
}

// kept is why a release that is being deleted is still there, in helm-controller's words
// where it has some; empty where it may just take its time.
func kept(hr *helmv2.HelmRelease) string {
	c := apimeta.FindStatusCondition(hr.Status.Conditions, meta.ReadyCondition)
	switch {
	case c != nil && c.Status == metav1.ConditionFalse && c.Reason == helmv2.UninstallFailedReason:
		return "cannot be removed: " + cut(outcome.Words(hr, c))
	case len(hr.Finalizers) > 0 && !slices.Contains(hr.Finalizers, helmv2.HelmReleaseFinalizer):
		// Helm is done with it, and somebody else is not.
		return "is held by the finalizer " + strings.Join(hr.Finalizers, ", ")
	}
	return ""
}

func (s summary) succeeded() string {
	return fmt.Sprintf("generation %d is rolled out", s.rollout.Generation)
}

func progressing(message string) verdict {
	return verdict{status: metav1.ConditionUnknown, reason: v1alpha1.ReasonProgressing, message: message, working: true}
}

// progress of a workflow, for a user.
func (s summary) progress(wf *wfv1.Workflow) string {
	if suspended(wf) {
		return fmt.Sprintf("workflow %s is suspended", wf.Name)
	}
	if len(wf.Status.Nodes) == 0 {
		return fmt.Sprintf("workflow %s is submitted", wf.Name)
	}
	c := s.countOf(wf)
	message := fmt.Sprintf("workflow %s is running: %d done, %d active", wf.Name, c.done, c.active)
	if c.failed > 0 {
		message += fmt.Sprintf(", %d failed", c.failed)
	}
	return message
}

// failureMessage says which release failed and why.
func failureMessage(wf *wfv1.Workflow) string {
	f := failureOf(wf)
	switch {
	case f.reason == reasonTerminated:
		return fmt.Sprintf("workflow %s was stopped", wf.Name)
	case f.task != "":
		return fmt.Sprintf("%s: %s", f.task, f.message)
	case f.message != "":
		return fmt.Sprintf("workflow %s failed: %s", wf.Name, f.message)
	default:
		return fmt.Sprintf("workflow %s failed", wf.Name)
	}
}

func suspended(wf *wfv1.Workflow) bool {
	return wf.Spec.Suspend != nil && *wf.Spec.Suspend && !wf.Status.Fulfilled()
}

// newest is the workflow of a type (of any where it is empty) that was made last. Kubernetes keeps whole seconds: of two
// of the same one that of the newer generation was, and a rollback after what it takes back.
func (s summary) newest(kind events.WorkflowType, which func(run) bool) *wfv1.Workflow {
	var newest run
	for _, r := range s.runs {
		if kind != "" && typeOf(r.wf) != kind || !which(r) {
			continue
		}
		if newest.wf == nil || cmp.Or(r.wf.CreationTimestamp.Compare(newest.wf.CreationTimestamp.Time),
			cmp.Compare(r.rollout.Generation, newest.rollout.Generation), cmp.Compare(r.wf.Name, newest.wf.Name)) > 0 {
			newest = r
		}
	}
	return newest.wf
}

// current is a condition of the group that speaks of this generation.
func (s summary) current(kind string, status metav1.ConditionStatus) *metav1.Condition {
	c := apimeta.FindStatusCondition(s.Group.Status.Conditions, kind)
	if c == nil || c.Status != status || c.ObservedGeneration != s.rollout.Generation {
		return nil
	}
	return c
}

func (s summary) condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: s.rollout.Generation}
}
