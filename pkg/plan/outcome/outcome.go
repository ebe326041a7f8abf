// Package outcome says what helm-controller has made of a HelmRelease: whether
// it is done, whether it has given up, or whether it goes on. It knows
// helm-controller v1.6; the comments name the place in its source that decides.
package outcome

import (
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

// Phase is how far helm-controller has come with what a HelmRelease asks for now.
type Phase string

// The phases.
const (
	// Progressing: helm-controller has not come to rest, or not looked yet.
	Progressing Phase = "Progressing"
	// Ready: Helm installed what is asked for.
	Ready Phase = "Ready"
	// Failed: Helm failed, and helm-controller will not try again by itself.
	Failed Phase = "Failed"
)

const (
	// Grace is added to a release's timeout: Helm's own timeout counts from a
	// little later, and what it reports says more than that the time is up.
	Grace = 10 * time.Second

	// unstoredAttempts is how often an action may fail before Helm has stored
	// anything (a template that does not render, values against the schema, a kind
	// that is not there, an object that belongs to another release), beyond the
	// retries that the release asks for. helm-controller never gives up on these
	// (internal/reconcile/install.go, "Return error if we did not store a release"),
	// but they are mostly wrong for good. Its delays begin at 750 ms and double, so
	// that this is about 12 s.
	unstoredAttempts = 5

	// againstSchema is in Helm's message about values that the chart's schema refuses
	// (pkg/chart/common/util/values.go): no attempt will change that.
	againstSchema = "values don't meet the specifications of the schema(s)"

	// sourceGrace is how long the chart that a release refers to may be missing. It
	// was there when the release was planned, so that it mostly is a cache that is
	// behind; helm-controller never gives up on it.
	sourceGrace = 5 * time.Second

	// noSource begins what helm-controller says where it cannot read the source
	// (internal/controller/helmrelease_controller.go, reconcileRelease).
	noSource = "could not get Source object: "

	// inSyncReason is what is said of a release that only its history tells of.
	inSyncReason = "InSync"

	// deployed is Helm's status of a release that is installed.
	deployed = "deployed"

	// suspendedReason is what is said of a HelmRelease with spec.suspend.
	suspendedReason = "Suspended"
)

// Outcome of one generation of a HelmRelease.
type Outcome struct {
	Phase Phase
	// Reason is a condition's reason, of Failed and mostly of Progressing.
	Reason string
	// Message in Helm's or helm-controller's words, see Words.
	Message string
}

// Of reads the outcome of the generation that hr has, and of the reconciliation
// that was requested last. What the conditions say of an older generation does
// not count.
func Of(hr *helmv2.HelmRelease) Outcome {
	// A request is handled when it is repeated in the status, which the patch at
	// the end of a reconciliation does
	// (internal/controller/helmrelease_controller.go, Reconcile, the deferred func).
	if at, ok := meta.ReconcileAnnotationValue(hr.Annotations); ok && hr.Status.LastHandledReconcileAt != at {
		return progressing(hr)
	}
	switch {
	case stalled(hr):
		return failed(hr)
	case (hr.Status.ObservedGeneration == hr.Generation || released(hr)) && current(hr, meta.ReadyCondition, metav1.ConditionTrue) != nil:
		return ready(hr)
	case inSync(hr):
		h := hr.Status.History.Latest()
		return Outcome{Phase: Ready, Reason: inSyncReason, Message: "Helm has deployed " + h.FullReleaseName() + " with chart " + h.VersionedChartName()}
	case rested(hr), hopeless(hr), unremedied(hr):
		return failed(hr)
	default:
		return progressing(hr)
	}
}

// Deadline is when a release that was begun at started has taken too long, as it
// is now: one whose chart is missing gets little time.
func Deadline(hr *helmv2.HelmRelease, started time.Time) time.Time {
	deadline := started.Add(hr.GetTimeout().Duration + Grace)
	c := sourceMissing(hr)
	if c == nil {
		return deadline
	}
	since := started
	if c.LastTransitionTime.After(since) {
		since = c.LastTransitionTime.Time
	}
	if missing := since.Add(sourceGrace); missing.Before(deadline) {
		return missing
	}
	return deadline
}

// SourceMissing reports whether there is no chart of the name that the release
// refers to.
func SourceMissing(hr *helmv2.HelmRelease) bool { return sourceMissing(hr) != nil }

func sourceMissing(hr *helmv2.HelmRelease) *metav1.Condition {
	if hr.DeletionTimestamp != nil || hr.Spec.Suspend {
		return nil // no chart is needed for an uninstall
	}
	c := current(hr, meta.ReadyCondition, metav1.ConditionFalse)
	if c == nil || c.Reason != helmv2.ArtifactFailedReason ||
		!strings.HasPrefix(c.Message, noSource) || !strings.HasSuffix(c.Message, " not found") {
		return nil
	}
	return c
}

// stalled: out of retries, no target to roll back to, access denied, or an invalid
// expression: a terminal error, never requeued. The condition alone does not tell of which
// generation that is: where the spec is changed while Helm is at work on the one before,
// helm-controller writes what became of that one with the newest generation in it (the patch
// helper of fluxcd/pkg/runtime reads the object again, and sets it). What it has attempted, or
// observed, it writes as it was.
func stalled(hr *helmv2.HelmRelease) bool {
	return (hr.Status.ObservedGeneration == hr.Generation || hr.Status.LastAttemptedGeneration == hr.Generation) &&
		current(hr, meta.StalledCondition, metav1.ConditionTrue) != nil
}

// released: Helm has done what this generation asks for, and helm-controller has said so. What
// comes before it writes observedGeneration, with the patch at the end, takes as long as ten
// releases at a time let it, half a second perhaps, and decides nothing: it reads Helm's
// records once more, and finds the release in sync (internal/reconcile/atomic_release.go, the
// loop of Reconcile). Only where it is to test the release, or to look for drift, there is more to come.
func released(hr *helmv2.HelmRelease) bool {
	return hr.Status.LastAttemptedGeneration == hr.Generation && !hr.Spec.Suspend &&
		!hr.GetTest().Enable && !hr.GetDriftDetection().MustDetectChanges() &&
		current(hr, helmv2.ReleasedCondition, metav1.ConditionTrue) != nil
}

// inSync: helm-controller has finished with this generation and has Helm's release of it in its
// history, but not that it was released: the conditions and the rest of its status are two
// patches, and the first was lost, as when the API server goes away between them. It
// then sums up what there is, which is that an action is running, and is content
// (internal/reconcile/release.go, summarize).
func inSync(hr *helmv2.HelmRelease) bool {
	h := hr.Status.History.Latest()
	return hr.Status.ObservedGeneration == hr.Generation && hr.Status.LastAttemptedGeneration == hr.Generation && !hr.Spec.Suspend &&
		apimeta.FindStatusCondition(hr.Status.Conditions, helmv2.ReleasedCondition) == nil &&
		current(hr, meta.ReadyCondition, metav1.ConditionUnknown) != nil &&
		current(hr, meta.ReconcilingCondition, metav1.ConditionTrue) == nil &&
		h != nil && h.Status == deployed && h.ConfigDigest == hr.Status.LastAttemptedConfigDigest && h.ChartVersion == hr.Status.LastAttemptedRevision
}

// rested: helm-controller has finished with this generation and is not ready. It
// writes observedGeneration only where it does not requeue at once, and while it
// means to retry after an interval it says Reconciling
// (internal/reconcile/atomic_release.go, ErrRetryAfterInterval).
func rested(hr *helmv2.HelmRelease) bool {
	return hr.Status.ObservedGeneration == hr.Generation &&
		!hr.Spec.Suspend &&
		current(hr, meta.ReadyCondition, metav1.ConditionFalse) != nil &&
		current(hr, meta.ReconcilingCondition, metav1.ConditionTrue) == nil
}

// hopeless: the action failed again and again without leaving a trace in Helm's
// storage. status.failures counts all failures of this generation's attempts,
// installFailures and upgradeFailures those that count against the retries.
func hopeless(hr *helmv2.HelmRelease) bool {
	if hr.Status.LastAttemptedGeneration != hr.Generation || hr.GetActiveRetry(false) != nil {
		return false
	}
	c := current(hr, meta.ReadyCondition, metav1.ConditionFalse)
	if c == nil || c.Reason != helmv2.InstallFailedReason && c.Reason != helmv2.UpgradeFailedReason {
		return false
	}
	remediation := hr.GetActiveRemediation()
	if remediation == nil || remediation.GetRetries() < 0 {
		return false
	}
	if strings.Contains(c.Message, againstSchema) || retried(hr) {
		return hr.Status.Failures > 0
	}
	return hr.Status.Failures >= int64(remediation.GetRetries()+unstoredAttempts)
}

// retried: this very attempt was asked for after a failure. helm-controller makes it at
// once, but the delay before the one after it goes on from where it had come to, minutes
// perhaps: its queue forgets the failures of a release only when that has succeeded, and
// not when they are reset.
func retried(hr *helmv2.HelmRelease) bool {
	at := hr.Annotations[helmv2.ResetRequestAnnotation]
	return at != "" && at == hr.Annotations[v1alpha1.AnnotationStartedAt] && at == hr.Status.LastHandledResetAt
}

// unremedied: the retries are used up, and the remediation after the last of them
// failed, too. helm-controller goes on with the remediation for ever
// (internal/reconcile/rollback_remediation.go, "Return error if we did not store a
// release"), and what was asked for will not be tried again.
func unremedied(hr *helmv2.HelmRelease) bool {
	if hr.Status.LastAttemptedGeneration != hr.Generation || hr.GetActiveRetry(false) != nil {
		return false
	}
	remediation := hr.GetActiveRemediation()
	return remediation != nil && remediation.RetriesExhausted(hr) && !remediation.IsUninstallAfterUpgrade() &&
		current(hr, helmv2.RemediatedCondition, metav1.ConditionFalse) != nil &&
		current(hr, meta.ReadyCondition, metav1.ConditionFalse) != nil
}

func ready(hr *helmv2.HelmRelease) Outcome {
	c := current(hr, meta.ReadyCondition, metav1.ConditionTrue)
	return Outcome{Phase: Ready, Reason: c.Reason, Message: c.Message}
}

// failed says why in Helm's words, as far as they may be repeated. After a remediation Ready tells how that went
// ("Helm rollback to previous release ... succeeded"), and the failure that made
// it necessary is in Released or TestSuccess
// (internal/reconcile/release.go, summarize).
func failed(hr *helmv2.HelmRelease) Outcome {
	o := Outcome{Phase: Failed}
	said := ""
	add := func(c *metav1.Condition) {
		if c == nil || c.Message == "" || strings.Contains(said, c.Message) {
			return
		}
		said += "; " + c.Message
		if o.Reason == "" {
			o.Reason, o.Message = c.Reason, Words(hr, c)
			return
		}
		o.Message += "; " + Words(hr, c)
	}
	add(current(hr, helmv2.ReleasedCondition, metav1.ConditionFalse))
	add(current(hr, helmv2.TestSuccessCondition, metav1.ConditionFalse))
	add(current(hr, meta.ReadyCondition, metav1.ConditionFalse))
	if o.Reason == "" {
		add(current(hr, meta.StalledCondition, metav1.ConditionTrue))
	}
	return o
}

func progressing(hr *helmv2.HelmRelease) Outcome {
	if hr.Spec.Suspend {
		return Outcome{Phase: Progressing, Reason: suspendedReason, Message: "the HelmRelease is suspended"}
	}
	o := Outcome{Phase: Progressing}
	c := apimeta.FindStatusCondition(hr.Status.Conditions, meta.ReadyCondition)
	if c == nil || c.Status == metav1.ConditionTrue {
		c = apimeta.FindStatusCondition(hr.Status.Conditions, meta.ReconcilingCondition)
	}
	if c != nil {
		o.Reason, o.Message = c.Reason, Words(hr, c)
	}
	return o
}

// current is the condition, where it has that status and speaks of this generation.
func current(hr *helmv2.HelmRelease, condition string, status metav1.ConditionStatus) *metav1.Condition {
	c := apimeta.FindStatusCondition(hr.Status.Conditions, condition)
	if c == nil || c.Status != status || c.ObservedGeneration != hr.Generation {
		return nil
	}
	return c
}
