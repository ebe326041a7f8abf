package outcome_test

import (
	"strings"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/pkg/plan/outcome"
)

// canary is a value out of a Secret.
const canary = "c4n4ry"

// valuesFrom gives the release values out of an object of that kind.
func valuesFrom(kind string) func(*helmv2.HelmRelease) {
	return func(hr *helmv2.HelmRelease) {
		hr.Namespace, hr.Name = "shop", "web"
		hr.Spec.ValuesFrom = []helmv2.ValuesReference{{Kind: "ConfigMap", Name: "c"}, {Kind: kind, Name: "values"}}
	}
}

func TestWords(t *testing.T) {
	const (
		install = "Helm install failed for release shop/web with chart web@1.2.0: "
		see     = "what follows may quote a Secret, see kubectl -n shop describe helmrelease web"
	)
	failed := func(message string) metav1.Condition {
		return condition(meta.ReadyCondition, metav1.ConditionFalse, helmv2.InstallFailedReason, message)
	}
	for name, tc := range map[string]struct {
		reason string
		c      metav1.Condition
		want   string
	}{
		"Fail": {
			reason: "what a template says is left out, with what helm-controller says before it and where it is",
			c:      failed(install + "execution error at (web/templates/a.yaml:3:4): " + canary), want: install + see,
		},
		"ManyLines": {
			reason: "a message of many lines is left out to its end",
			c:      failed(install + "a\nb: " + canary + "\nLast Helm logs:\n" + canary), want: install + see,
		},
		"PlainAndMore": {
			reason: "what begins as a plain message is none",
			c:      failed(install + "context deadline exceeded: " + canary), want: install + see,
		},
		"Timeout": {
			reason: "a message without anybody's values is whole",
			c:      failed(install + "context deadline exceeded"), want: install + "context deadline exceeded",
		},
		"Schema": {
			reason: "that the schema refuses the values is said, and the values are not",
			c:      failed(install + "values don't meet the specifications of the schema(s) in the following chart(s):\nweb:\n- password: got " + canary),
			want:   install + "values don't meet the specifications of the schema(s): " + see,
		},
		"Upgrade": {
			reason: "an upgrade is as an install",
			c: condition(helmv2.ReleasedCondition, metav1.ConditionFalse, helmv2.UpgradeFailedReason,
				"Helm upgrade failed for release shop/web with chart web@1.2.0: "+canary),
			want: "Helm upgrade failed for release shop/web with chart web@1.2.0: " + see,
		},
		"Rollback": {
			reason: "the way back quotes manifests, too",
			c: condition(helmv2.RemediatedCondition, metav1.ConditionFalse, helmv2.RollbackFailedReason,
				"Helm rollback to previous release shop/web.v1 with chart web@1.2.0 failed: "+canary),
			want: "Helm rollback to previous release shop/web.v1 with chart web@1.2.0 failed: " + see,
		},
		"Values": {
			reason: "values that cannot be read are quoted by who reads them",
			c:      condition(meta.ReadyCondition, metav1.ConditionFalse, "ValuesError", "unable to parse: "+canary), want: see,
		},
		"Retrying": {
			reason: "the announcement of another try repeats the failure",
			c:      condition(meta.ReconcilingCondition, metav1.ConditionTrue, meta.ProgressingWithRetryReason, install+canary), want: install + see,
		},
		"Source": {
			reason: "what helm-controller says itself is whole",
			c:      condition(meta.ReadyCondition, metav1.ConditionFalse, helmv2.ArtifactFailedReason, "could not get Source object: gone"),
			want:   "could not get Source object: gone",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcome.Words(release(valuesFrom("Secret")), &tc.c); got != tc.want {
				t.Errorf("%s:\n got %s\nwant %s", tc.reason, got, tc.want)
			}
			if got := outcome.Words(release(valuesFrom("ConfigMap")), &tc.c); got != tc.c.Message {
				t.Errorf("without a Secret there is nothing to hide: got %s", got)
			}
		})
	}
}

// Whatever phase the conditions make, its message shows nothing of a Secret, and says a thing once.
func TestOutcomeShowsNoSecret(t *testing.T) {
	said := "Helm upgrade failed for release shop/web with chart web@1.2.0: " + canary
	released := condition(helmv2.ReleasedCondition, metav1.ConditionFalse, helmv2.UpgradeFailedReason, said)
	ready := condition(meta.ReadyCondition, metav1.ConditionFalse, helmv2.UpgradeFailedReason, said)
	retrying := condition(meta.ReconcilingCondition, metav1.ConditionTrue, meta.ProgressingWithRetryReason, said)
	for name, hr := range map[string]*helmv2.HelmRelease{
		"Failed":      release(valuesFrom("Secret"), released, ready),
		"Progressing": release(valuesFrom("Secret"), released, ready, retrying),
		"OnlyTrying":  release(valuesFrom("Secret"), retrying),
	} {
		o := outcome.Of(hr)
		if strings.Contains(o.Message, canary) || strings.Count(o.Message, "kubectl") != 1 || strings.Count(o.Message, "Helm upgrade failed") != 1 {
			t.Errorf("%s: %s, %s", name, o.Phase, o.Message)
		}
	}
}
