package outcome_test

import (
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/plan/outcome"
)

const generation = 3

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: generation}
}

func older(c metav1.Condition) metav1.Condition {
	c.ObservedGeneration = generation - 1
	return c
}

func release(edit func(*helmv2.HelmRelease), conditions ...metav1.Condition) *helmv2.HelmRelease {
	hr := &helmv2.HelmRelease{}
	hr.Generation = generation
	hr.Status.ObservedGeneration = generation
	hr.Status.LastAttemptedGeneration = generation
	hr.Status.LastAttemptedReleaseAction = helmv2.ReleaseActionInstall
	hr.Status.Conditions = conditions
	if edit != nil {
		edit(hr)
	}
	return hr
}

func unobserved(hr *helmv2.HelmRelease) { hr.Status.ObservedGeneration = generation - 1 }

func TestOf(t *testing.T) {
	installed := condition(meta.ReadyCondition, metav1.ConditionTrue, helmv2.InstallSucceededReason, "Helm install succeeded for release a/b.v1 with chart c@1")
	done := condition(helmv2.ReleasedCondition, metav1.ConditionTrue, helmv2.InstallSucceededReason, installed.Message)
	broken := condition(meta.ReadyCondition, metav1.ConditionFalse, helmv2.InstallFailedReason, "Helm install failed for release a/b with chart c@1: boom")
	schema := condition(meta.ReadyCondition, metav1.ConditionFalse, helmv2.InstallFailedReason,
		"Helm install failed: values don't meet the specifications of the schema(s) in the following chart(s):\nweb:\n- port: want integer")
	unremedied := condition(helmv2.RemediatedCondition, metav1.ConditionFalse, helmv2.RollbackFailedReason,
		"Helm rollback to previous release a/b.v1 failed: boom")
	notReady := func(c metav1.Condition) metav1.Condition { c.Type = meta.ReadyCondition; return c }
	exhausted := func(r *helmv2.UpgradeRemediation) func(*helmv2.HelmRelease) {
		return func(hr *helmv2.HelmRelease) {
			unobserved(hr)
			hr.Status.LastAttemptedReleaseAction = helmv2.ReleaseActionUpgrade
			hr.Status.UpgradeFailures = 1
			hr.Spec.Upgrade = &helmv2.Upgrade{Remediation: r}
		}
	}
	running := condition(meta.ReadyCondition, metav1.ConditionUnknown, meta.ProgressingReason, "Running 'install' action with timeout of 5m0s")
	recorded := func(hr *helmv2.HelmRelease) {
		hr.Status.LastAttemptedConfigDigest, hr.Status.LastAttemptedRevision = "sha256:a", "1"
		hr.Status.History = helmv2.Snapshots{{Name: "b", Namespace: "a", Version: 1, Status: "deployed", ChartName: "c", ChartVersion: "1", ConfigDigest: "sha256:a"}}
	}
	retrying := condition(meta.ReconcilingCondition, metav1.ConditionTrue, meta.ProgressingWithRetryReason, "retrying after 5m0s")

	for name, tc := range map[string]struct {
		reason string
		hr     *helmv2.HelmRelease
		want   outcome.Outcome
	}{
		"New": {
			reason: "helm-controller has not looked yet",
			hr:     release(func(hr *helmv2.HelmRelease) { hr.Status.ObservedGeneration = -1 }),
			want:   outcome.Outcome{Phase: outcome.Progressing},
		},
		"Ready": {
			reason: "Ready at the generation that it has is done",
			hr:     release(nil, installed),
			want:   outcome.Outcome{Phase: outcome.Ready, Reason: installed.Reason, Message: installed.Message},
		},
		"ReadyOfOlderGeneration": {
			reason: "a spec that helm-controller has not seen is not ready because the one before was",
			hr:     release(unobserved, older(installed)),
			want:   outcome.Outcome{Phase: outcome.Progressing},
		},
		"ReadyButNotObserved": {
			reason: "Ready is written before the reconciliation is over",
			hr:     release(unobserved, installed),
			want:   outcome.Outcome{Phase: outcome.Progressing},
		},
		"ReleasedButNotObserved": {
			reason: "Helm is done, and what helm-controller still does changes nothing",
			hr:     release(unobserved, installed, done),
			want:   outcome.Outcome{Phase: outcome.Ready, Reason: installed.Reason, Message: installed.Message},
		},
		"ReleasedInAnOlderGeneration": {
			reason: "what was released was another spec",
			hr:     release(unobserved, installed, older(done)),
			want:   outcome.Outcome{Phase: outcome.Progressing},
		},
		"ReleasedBeforeTheAttempt": {
			reason: "of this generation nothing was attempted yet",
			hr: release(func(hr *helmv2.HelmRelease) {
				unobserved(hr)
				hr.Status.LastAttemptedGeneration = generation - 1
			}, installed, done),
			want: outcome.Outcome{Phase: outcome.Progressing},
		},
		"ReleasedAndNotTested": {
			reason: "a test may have failures that are ignored, but it is run",
			hr: release(func(hr *helmv2.HelmRelease) {
				unobserved(hr)
				hr.Spec.Test = &helmv2.Test{Enable: true, IgnoreFailures: true}
			}, installed, done),
			want: outcome.Outcome{Phase: outcome.Progressing},
		},
		"ReleasedAndDrifting": {
			reason: "what has drifted is corrected first",
			hr: release(func(hr *helmv2.HelmRelease) {
				unobserved(hr)
				hr.Spec.DriftDetection = &helmv2.DriftDetection{Mode: helmv2.DriftDetectionEnabled}
			}, installed, done),
			want: outcome.Outcome{Phase: outcome.Progressing},
		},
		"ReleasedAndNotReady": {
			reason: "Released is not all that Ready sums up",
			hr:     release(unobserved, done),
			want:   outcome.Outcome{Phase: outcome.Progressing},
		},
		"OnlyRecorded": {
			reason: "the API server was away when it was to be said that Helm is done",
			hr:     release(recorded, running),
			want:   outcome.Outcome{Phase: outcome.Ready, Reason: "InSync", Message: "Helm has deployed a/b.v1 with chart c@1"},
		},
		"RecordedAndUnderWay": {
			reason: "something is being done about it",
			hr:     release(recorded, running, condition(meta.ReconcilingCondition, metav1.ConditionTrue, meta.ProgressingReason, running.Message)),
			want:   outcome.Outcome{Phase: outcome.Progressing, Reason: running.Reason, Message: running.Message},
		},
		"RecordedButNotObserved": {
			reason: "helm-controller has not come to rest",
			hr:     release(func(hr *helmv2.HelmRelease) { recorded(hr); unobserved(hr) }, running),
			want:   outcome.Outcome{Phase: outcome.Progressing, Reason: running.Reason, Message: running.Message},
		},
		"AnotherIsRecorded": {
			reason: "what Helm has is of other values",
			hr: release(func(hr *helmv2.HelmRelease) {
				recorded(hr)
				hr.Status.LastAttemptedConfigDigest = "sha256:b"
			}, running),
			want: outcome.Outcome{Phase: outcome.Progressing, Reason: running.Reason, Message: running.Message},
		},
		"RequestPending": {
			reason: "after a request only what was found since counts, success",
			hr: release(func(hr *helmv2.HelmRelease) {
				hr.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "2"}
				hr.Status.LastHandledReconcileAt = "1"
			}, installed),
			want: outcome.Outcome{Phase: outcome.Progressing},
		},
		"StalledBeforeRequest": {
			reason: "after a request only what was found since counts, failure",
			hr: release(func(hr *helmv2.HelmRelease) {
				hr.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "2"}
			}, broken, condition(meta.StalledCondition, metav1.ConditionTrue, "RetriesExceeded", "Failed to install after 1 attempt(s)")),
			want: outcome.Outcome{Phase: outcome.Progressing, Reason: broken.Reason, Message: broken.Message},
		},
		"RequestHandled": {
			reason: "a request that was handled is over",
			hr: release(func(hr *helmv2.HelmRelease) {
				hr.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "2"}
				hr.Status.LastHandledReconcileAt = "2"
			}, installed),
			want: outcome.Outcome{Phase: outcome.Ready, Reason: installed.Reason, Message: installed.Message},
		},
		"Stalled": {
			reason: "out of retries is final at once, in Helm's words and not in those of the controller",
			hr: release(unobserved, broken,
				condition(helmv2.ReleasedCondition, metav1.ConditionFalse, broken.Reason, broken.Message),
				condition(meta.StalledCondition, metav1.ConditionTrue, "RetriesExceeded", "Failed to install after 1 attempt(s)")),
			want: outcome.Outcome{Phase: outcome.Failed, Reason: broken.Reason, Message: broken.Message},
		},
		"StalledOfOlderGeneration": {
			reason: "a new spec is tried although the one before was given up",
			hr:     release(unobserved, older(broken), older(condition(meta.StalledCondition, metav1.ConditionTrue, "RetriesExceeded", "x"))),
			want:   outcome.Outcome{Phase: outcome.Progressing, Reason: broken.Reason, Message: broken.Message},
		},
		"StalledOfOlderGenerationUnderTheNewest": {
			reason: "what became of the spec before is written after the spec has changed",
			hr: release(func(hr *helmv2.HelmRelease) {
				unobserved(hr)
				hr.Status.LastAttemptedGeneration = generation - 1
			}, broken, condition(meta.StalledCondition, metav1.ConditionTrue, "RetriesExceeded", "x")),
			want: outcome.Outcome{Phase: outcome.Progressing, Reason: broken.Reason, Message: broken.Message},
		},
		"StalledWithoutMore": {
			reason: "where nothing else is said, the message is that of Stalled",
			hr:     release(nil, condition(meta.StalledCondition, metav1.ConditionTrue, "AccessDenied", "can't access")),
			want:   outcome.Outcome{Phase: outcome.Failed, Reason: "AccessDenied", Message: "can't access"},
		},
		"RolledBack": {
			reason: "a successful rollback by helm-controller is a failure of what was asked for, and both are told",
			hr: release(nil,
				condition(helmv2.RemediatedCondition, metav1.ConditionTrue, helmv2.RollbackSucceededReason, "Helm rollback to previous release a/b.v1 succeeded"),
				condition(meta.ReadyCondition, metav1.ConditionFalse, helmv2.RollbackSucceededReason, "Helm rollback to previous release a/b.v1 succeeded"),
				condition(helmv2.ReleasedCondition, metav1.ConditionFalse, helmv2.UpgradeFailedReason, "Helm upgrade failed: timed out"),
				condition(meta.StalledCondition, metav1.ConditionTrue, "RetriesExceeded", "Failed to upgrade after 1 attempt(s)")),
			want: outcome.Outcome{Phase: outcome.Failed, Reason: helmv2.UpgradeFailedReason,
				Message: "Helm upgrade failed: timed out; Helm rollback to previous release a/b.v1 succeeded"},
		},
		"RetriesLeft": {
			reason: "with retries left helm-controller goes on, and so do we",
			hr:     release(unobserved, broken, condition(meta.ReconcilingCondition, metav1.ConditionTrue, meta.ProgressingWithRetryReason, broken.Message)),
			want:   outcome.Outcome{Phase: outcome.Progressing, Reason: broken.Reason, Message: broken.Message},
		},
		"RetryAfterInterval": {
			reason: "the strategy RetryOnFailure observes the generation and goes on",
			hr:     release(nil, broken, retrying),
			want:   outcome.Outcome{Phase: outcome.Progressing, Reason: broken.Reason, Message: broken.Message},
		},
		"AtRestAndNotReady": {
			reason: "a generation that was observed, failed, and is not being retried is final without Stalled",
			hr:     release(nil, broken),
			want:   outcome.Outcome{Phase: outcome.Failed, Reason: broken.Reason, Message: broken.Message},
		},
		"Suspended": {
			reason: "a suspended release says so and waits",
			hr:     release(func(hr *helmv2.HelmRelease) { hr.Spec.Suspend = true }, broken),
			want:   outcome.Outcome{Phase: outcome.Progressing, Reason: "Suspended", Message: "the HelmRelease is suspended"},
		},
		"SourceNotReady": {
			reason: "a chart that is not there yet is waited for",
			hr:     release(unobserved, condition(meta.ReadyCondition, metav1.ConditionFalse, "SourceNotReady", "HelmChart is not ready")),
			want:   outcome.Outcome{Phase: outcome.Progressing, Reason: "SourceNotReady", Message: "HelmChart is not ready"},
		},
		"UnstoredFailureOnce": {
			reason: "a failure before Helm stored anything may pass",
			hr:     release(func(hr *helmv2.HelmRelease) { unobserved(hr); hr.Status.Failures = 4 }, broken, retrying),
			want:   outcome.Outcome{Phase: outcome.Progressing, Reason: broken.Reason, Message: broken.Message},
		},
		"UnstoredFailureAgainAndAgain": {
			reason: "helm-controller would try a template that does not render for ever",
			hr:     release(func(hr *helmv2.HelmRelease) { unobserved(hr); hr.Status.Failures = 5 }, broken, retrying),
			want:   outcome.Outcome{Phase: outcome.Failed, Reason: broken.Reason, Message: broken.Message},
		},
		"UnstoredFailureOfARetry": {
			reason: "a retry is one attempt: the next one of helm-controller's own would come minutes later",
			hr:     release(asked(0), broken, retrying),
			want:   outcome.Outcome{Phase: outcome.Failed, Reason: broken.Reason, Message: broken.Message},
		},
		"UnstoredFailureAfterARetry": {
			reason: "what was asked of an earlier rollout says nothing of this one",
			hr:     release(asked(time.Minute), broken, retrying),
			want:   outcome.Outcome{Phase: outcome.Progressing, Reason: broken.Reason, Message: broken.Message},
		},
		"RetryNotSeen": {
			reason: "a retry that was not handled has not failed",
			hr:     release(func(hr *helmv2.HelmRelease) { asked(0)(hr); hr.Status.LastHandledReconcileAt = "before" }, broken, retrying),
			want:   outcome.Outcome{Phase: outcome.Progressing, Reason: broken.Reason, Message: broken.Message},
		},
		"UnstoredFailureWithRetries": {
			reason: "retries that the release asks for come on top",
			hr: release(func(hr *helmv2.HelmRelease) {
				unobserved(hr)
				hr.Status.Failures = 5
				hr.Spec.Install = &helmv2.Install{Remediation: &helmv2.InstallRemediation{Retries: 1}}
			}, broken, retrying),
			want: outcome.Outcome{Phase: outcome.Progressing, Reason: broken.Reason, Message: broken.Message},
		},
		"UnstoredFailureOfOlderGeneration": {
			reason: "failures of an older generation do not count",
			hr: release(func(hr *helmv2.HelmRelease) {
				unobserved(hr)
				hr.Status.Failures, hr.Status.LastAttemptedGeneration = 50, generation-1
			}, older(broken), retrying),
			want: outcome.Outcome{Phase: outcome.Progressing, Reason: broken.Reason, Message: broken.Message},
		},
		"AgainstTheSchema": {
			reason: "values that the chart's schema refuses are refused at every attempt",
			hr:     release(func(hr *helmv2.HelmRelease) { unobserved(hr); hr.Status.Failures = 1 }, schema, retrying),
			want:   outcome.Outcome{Phase: outcome.Failed, Reason: schema.Reason, Message: schema.Message},
		},
		"RollbackFailed": {
			reason: "helm-controller would repeat a rollback that fails for ever, and never try the upgrade again",
			hr: release(exhausted(nil), condition(helmv2.ReleasedCondition, metav1.ConditionFalse, helmv2.UpgradeFailedReason, "Helm upgrade failed: timed out"),
				unremedied, notReady(unremedied), retrying),
			want: outcome.Outcome{Phase: outcome.Failed, Reason: helmv2.UpgradeFailedReason,
				Message: "Helm upgrade failed: timed out; Helm rollback to previous release a/b.v1 failed: boom"},
		},
		"RollbackFailedWithRetries": {
			reason: "with retries left the upgrade is tried again after the rollback",
			hr:     release(exhausted(&helmv2.UpgradeRemediation{Retries: 1}), unremedied, notReady(unremedied), retrying),
			want:   outcome.Outcome{Phase: outcome.Progressing, Reason: unremedied.Reason, Message: unremedied.Message},
		},
		"UninstallBeforeInstallFailed": {
			reason: "the uninstall of a failed upgrade is followed by another install",
			hr: release(exhausted(&helmv2.UpgradeRemediation{Strategy: new(helmv2.UninstallRemediationStrategy)}),
				unremedied, notReady(unremedied), retrying),
			want: outcome.Outcome{Phase: outcome.Progressing, Reason: unremedied.Reason, Message: unremedied.Message},
		},
		"TestFailedAndRolledBack": {
			reason: "a rollback after a failed Helm test tells of the test, too",
			hr: release(nil,
				condition(helmv2.RemediatedCondition, metav1.ConditionTrue, helmv2.RollbackSucceededReason, "Helm rollback succeeded"),
				condition(meta.ReadyCondition, metav1.ConditionFalse, helmv2.RollbackSucceededReason, "Helm rollback succeeded"),
				condition(helmv2.ReleasedCondition, metav1.ConditionTrue, helmv2.UpgradeSucceededReason, "Helm upgrade succeeded"),
				condition(helmv2.TestSuccessCondition, metav1.ConditionFalse, helmv2.TestFailedReason, "Helm test failed: 1 error"),
				condition(meta.StalledCondition, metav1.ConditionTrue, "RetriesExceeded", "x")),
			want: outcome.Outcome{Phase: outcome.Failed, Reason: helmv2.TestFailedReason,
				Message: "Helm test failed: 1 error; Helm rollback succeeded"},
		},
		"EndlessRetries": {
			reason: "a release that asks for retries without end is given its whole timeout",
			hr: release(func(hr *helmv2.HelmRelease) {
				unobserved(hr)
				hr.Status.Failures = 500
				hr.Spec.Install = &helmv2.Install{Remediation: &helmv2.InstallRemediation{Retries: -1}}
			}, broken, retrying),
			want: outcome.Outcome{Phase: outcome.Progressing, Reason: broken.Reason, Message: broken.Message},
		},
		"TestFailed": {
			reason: "a failed Helm test is told with what it tested",
			hr: release(nil,
				condition(meta.ReadyCondition, metav1.ConditionFalse, helmv2.TestFailedReason, "Helm test failed"),
				condition(helmv2.TestSuccessCondition, metav1.ConditionFalse, helmv2.TestFailedReason, "Helm test failed"),
				condition(meta.StalledCondition, metav1.ConditionTrue, "RetriesExceeded", "x")),
			want: outcome.Outcome{Phase: outcome.Failed, Reason: helmv2.TestFailedReason, Message: "Helm test failed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, outcome.Of(tc.hr)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// asked is a release that has failed, and that was asked to be tried again that long
// before the rollout that wrote it last; helm-controller has tried.
func asked(before time.Duration) func(*helmv2.HelmRelease) {
	started := time.Date(2024, 1, 2, 3, 4, 5, 6, time.UTC)
	token := started.Add(-before).Format(time.RFC3339Nano)
	return func(hr *helmv2.HelmRelease) {
		unobserved(hr)
		hr.Annotations = map[string]string{
			meta.ReconcileRequestAnnotation: token, helmv2.ResetRequestAnnotation: token,
			v1alpha1.AnnotationStartedAt: started.Format(time.RFC3339Nano),
		}
		hr.Status.Failures, hr.Status.LastHandledReconcileAt, hr.Status.LastHandledResetAt = 1, token, token
	}
}

func TestDeadline(t *testing.T) {
	started := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	hr := release(nil)
	if got, want := outcome.Deadline(hr, started), started.Add(5*time.Minute+outcome.Grace); !got.Equal(want) {
		t.Errorf("the default timeout is 5m, and grace is added: got %s, want %s", got, want)
	}
	hr.Spec.Timeout = &metav1.Duration{Duration: 30 * time.Second}
	if got, want := outcome.Deadline(hr, started), started.Add(30*time.Second+outcome.Grace); !got.Equal(want) {
		t.Errorf("the release's own timeout is taken: got %s, want %s", got, want)
	}
}

func TestDeadlineWithoutAChart(t *testing.T) {
	const message = `could not get Source object: HelmChart.source.toolkit.fluxcd.io "shop-web-1a2b" not found`
	started := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	missing := func(said time.Duration, edit func(*helmv2.HelmRelease)) *helmv2.HelmRelease {
		c := condition(meta.ReadyCondition, metav1.ConditionFalse, helmv2.ArtifactFailedReason, message)
		c.LastTransitionTime = metav1.Time{Time: started.Add(said)}
		return release(edit, c)
	}
	const whole = 5*time.Minute + outcome.Grace
	for name, tc := range map[string]struct {
		reason  string
		hr      *helmv2.HelmRelease
		missing bool
		want    time.Duration
	}{
		"Missing":    {"a chart that is not there is not waited for as long as Helm may take", missing(time.Minute, nil), true, time.Minute + 5*time.Second},
		"SaidBefore": {"what was missing before is given the same time", missing(-time.Hour, nil), true, 5 * time.Second},
		"SaidLate":   {"the time of the release is not prolonged", missing(time.Hour, nil), true, whole},
		"OlderSpec":  {"what an older generation missed says nothing", missing(0, func(hr *helmv2.HelmRelease) { hr.Generation++ }), false, whole},
		"Deleting":   {"an uninstall needs no chart", missing(0, func(hr *helmv2.HelmRelease) { hr.DeletionTimestamp = &metav1.Time{} }), false, whole},
		"Suspended":  {"a suspended release is not looked at", missing(0, func(hr *helmv2.HelmRelease) { hr.Spec.Suspend = true }), false, whole},
		"Unreachable": {"an API server that does not answer may answer later", missing(0, func(hr *helmv2.HelmRelease) {
			hr.Status.Conditions[0].Message = "could not get Source object: timed out"
		}), false, whole},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcome.SourceMissing(tc.hr); got != tc.missing {
				t.Errorf("%s: missing is %t", tc.reason, got)
			}
			if got, want := outcome.Deadline(tc.hr, started), started.Add(tc.want); !got.Equal(want) {
				t.Errorf("%s: got %s, want %s", tc.reason, got, want)
			}
		})
	}
}
