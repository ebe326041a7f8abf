package execute

import (
	"fmt"
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/pkg/plan/outcome"
)

// maxMessage is how much of Helm's words goes into a node, in bytes: a workflow
// has 1 MiB for all of its nodes.
const maxMessage = 1024

// Step is what is to come next for one release.
type Step int

const (
	// Wait: helm-controller, or whoever deletes the release, is at work.
	Wait Step = iota
	// Begin: the release is to be written, or to be deleted.
	Begin
	// Succeed and Fail: the node is to be settled.
	Succeed
	Fail
)

// Verdict on one release.
type Verdict struct {
	Step Step
	// InFlight: the release was begun and is not done; it counts against the
	// workflow's parallelism.
	InFlight bool
	// Poll: nobody will tell when there is more to do. Look again soon.
	Poll bool
	// Message of Fail, for a user.
	Message string
}

// Decide says what comes next for one release: want is the plan's, have is the
// HelmRelease of that name or nil, with all its fields where want has a readiness
// expression, and since is when its node was activated.
func Decide(owner Owner, want plan.Node, have *helmv2.HelmRelease, since, now time.Time) Verdict {
	if have != nil {
		if problem := foreign(owner, have); problem != "" {
			return fail(have, problem)
		}
	}
	if want.Action == plan.Delete {
		return remove(owner, have, now)
	}
	return install(owner, want.ReadyExpr, have, since, now)
}

func install(owner Owner, readyExpr string, have *helmv2.HelmRelease, since, now time.Time) Verdict {
	switch {
	case have == nil:
		return Verdict{Step: Begin}
	case have.DeletionTimestamp != nil:
		// It cannot be kept from going; when it is gone it is made anew.
		if now.After(outcome.Deadline(have, since)) {
			return fail(have, "is still being deleted after "+short(have.GetTimeout().Duration)+because(have))
		}
		return Verdict{Step: Wait}
	case !written(owner, have):
		return Verdict{Step: Begin}
	}
	expired := now.After(outcome.Deadline(have, startedAt(have)))
	switch o := outcome.Of(have); {
	case o.Phase == outcome.Ready && readyExpr == "":
		return Verdict{Step: Succeed}
	case o.Phase == outcome.Ready:
		return readyBy(readyExpr, have, expired)
	case o.Phase == outcome.Failed:
		return fail(have, "failed: "+o.Message)
	case expired && outcome.SourceMissing(have):
		return fail(have, "failed: "+o.Message)
	case expired:
		return fail(have, "did not become ready within "+short(have.GetTimeout().Duration)+because(have))
	default:
		return Verdict{Step: Wait, InFlight: true}
	}
}

func remove(owner Owner, have *helmv2.HelmRelease, now time.Time) Verdict {
	switch {
	case have == nil:
		return Verdict{Step: Succeed}
	case !written(owner, have) || have.DeletionTimestamp == nil:
		return Verdict{Step: Begin}
	case now.After(outcome.Deadline(have, startedAt(have))):
		return fail(have, "was not uninstalled within "+short(have.GetTimeout().Duration)+because(have))
	default:
		return Verdict{Step: Wait, InFlight: true}
	}
}

// readyBy is the verdict on a release with which Helm is content.
func readyBy(expr string, have *helmv2.HelmRelease, expired bool) Verdict {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(have)
	if err != nil {
		return fail(have, "cannot be looked at: "+err.Error())
	}
	object["apiVersion"], object["kind"] = helmv2.GroupVersion.String(), helmv2.HelmReleaseKind
	switch holds, problem, wrong := evaluate(expr, object); {
	case wrong:
		return fail(have, "has a readyExpr that is none: "+problem)
	case holds:
		return Verdict{Step: Succeed}
	case expired:
		return fail(have, "did not become ready within "+short(have.GetTimeout().Duration)+": Helm is done, but "+problem)
	default:
		return Verdict{Step: Wait, InFlight: true, Poll: true}
	}
}

// foreign says why an object of that name is none of the owner's, and so neither
// written nor deleted. A release without a UID is the original Orkestra's.
func foreign(owner Owner, have metav1.Object) string {
	group := have.GetLabels()[v1alpha1.LabelOwner]
	uid := have.GetAnnotations()[v1alpha1.AnnotationGroupUID]
	switch {
	case have.GetLabels()[v1alpha1.LabelHeritage] != v1alpha1.Heritage:
		return "is there already and was not made by Orkestra: it is neither taken over nor deleted"
	case group != v1alpha1.Shorten(owner.Rollout.Group, v1alpha1.MaxLabel):
		return fmt.Sprintf("belongs to group %q", group)
	case uid != "" && uid != owner.Rollout.UID:
		return fmt.Sprintf("belongs to an earlier group %q (UID %s): delete it first", group, uid)
	default:
		return ""
	}
}

// written reports whether this very workflow wrote the object last.
func written(owner Owner, have metav1.Object) bool {
	return have.GetAnnotations()[v1alpha1.AnnotationWorkflowUID] == owner.WorkflowUID &&
		have.GetAnnotations()[v1alpha1.AnnotationWorkflow] == owner.Workflow
}

// startedAt is when the release was begun by the workflow that wrote it last.
// Where that cannot be read it was begun when it was made.
func startedAt(have *helmv2.HelmRelease) time.Time {
	at, err := time.Parse(time.RFC3339Nano, have.Annotations[v1alpha1.AnnotationStartedAt])
	if err != nil {
		return have.CreationTimestamp.Time
	}
	return at
}

func fail(have *helmv2.HelmRelease, problem string) Verdict {
	return failed(helmv2.HelmReleaseKind, have.Namespace, have.Name, problem)
}

// failed is the verdict on an object, as in "did not become ready".
func failed(kind, namespace, name, problem string) Verdict {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return Verdict{Step: Fail, Message: cut(kind + " " + name + " " + problem)}
}

// because is what helm-controller says of a release that takes too long.
func because(have *helmv2.HelmRelease) string {
	if o := outcome.Of(have); o.Message != "" {
		return ": " + o.Message
	}
	return ""
}

// cut shortens a message at a character's border.
func cut(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage-3], "") + "..."
}

// short is 5m for 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
