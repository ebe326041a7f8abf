package outcome

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ownWords are the reasons of conditions in which helm-controller speaks itself, of names, versions and how
// often it tried. In all others Helm, the API server or the chart may be quoted, and they may quote a value.
var ownWords = []string{
	helmv2.InstallSucceededReason, helmv2.UpgradeSucceededReason, helmv2.TestSucceededReason,
	helmv2.RollbackSucceededReason, helmv2.UninstallSucceededReason,
	helmv2.ArtifactFailedReason, helmv2.DependencyNotReadyReason, "AccessDenied",
	meta.ProgressingReason, meta.HealthCheckCanceledReason,
	"SourceNotReady", "AwaitingTests", "RetriesExceeded", "MissingRollbackTarget",
}

// quoting is how helm-controller begins a message that goes on in somebody else's words
// (internal/reconcile, the constants fmt…Failure).
var quoting = regexp.MustCompile(`^(?:Helm (?:install|upgrade|test|uninstall) failed for release \S+ with chart \S+` +
	`|Helm (?:rollback to previous|uninstall remediation for) release \S+ with chart \S+ failed` +
	`|Unlock of Helm release \S+ with chart \S+ in \S+ state failed): `)

// plain is what may follow and holds no value: whole messages, and the beginning of one that the values come after.
var plain = regexp.MustCompile(`^(?:(?:context deadline exceeded|timed out waiting for the condition|context canceled)$|` +
	regexp.QuoteMeta(againstSchema) + `)`)

// Words are those of a condition of the release, as they may be repeated to who may not read the release. Where its
// values come out of a Secret, what the chart or the API server says may quote one of them, by a template's fail or in a
// manifest that is refused; that part is left out then, with the place where it is. Which part it is that quotes nobody
// but who may read the Secret could say.
func Words(hr *helmv2.HelmRelease, c *metav1.Condition) string {
	if c.Message == "" || !hasSecretValues(hr) || slices.Contains(ownWords, c.Reason) {
		return c.Message
	}
	own := quoting.FindString(c.Message)
	said := plain.FindString(strings.TrimPrefix(c.Message, own))
	if own+said == c.Message {
		return c.Message
	}
	if said != "" {
		said += ": "
	}
	return fmt.Sprintf("%s%swhat follows may quote a Secret, see kubectl -n %s describe helmrelease %s", own, said, hr.Namespace, hr.Name)
}

func hasSecretValues(hr *helmv2.HelmRelease) bool {
	return slices.ContainsFunc(hr.Spec.ValuesFrom, func(ref helmv2.ValuesReference) bool { return ref.Kind == "Secret" })
}
