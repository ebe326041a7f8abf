package cdevents

import (
	"net/url"
	"regexp"
	"strings"

	"orkestra.dev/pkg/events"
)

// The types of CDEvents that the facts map to, with the versions that SpecVersion has.
var (
	artifactPublished   = what{"artifact", "published", "0.3.0"}
	environmentCreated  = what{"environment", "created", "0.3.0"}
	environmentModified = what{"environment", "modified", "0.3.0"}
	environmentDeleted  = what{"environment", "deleted", "0.3.0"}
	pipelineRunStarted  = what{"pipelinerun", "started", "0.3.0"}
	pipelineRunFinished = what{"pipelinerun", "finished", "0.3.0"}
	taskRunStarted      = what{"taskrun", "started", "0.3.0"}
	taskRunFinished     = what{"taskrun", "finished", "0.3.0"}
	serviceDeployed     = what{"service", "deployed", "0.3.0"}
	serviceUpgraded     = what{"service", "upgraded", "0.3.0"}
	serviceRolledBack   = what{"service", "rolledback", "0.3.0"}
	serviceRemoved      = what{"service", "removed", "0.3.0"}
)

// The outcomes of a run.
const (
	outcomeSuccess = "success"
	outcomeFailure = "failure"
	outcomeCancel  = "cancel"
	outcomeError   = "error"
)

// reference names a subject in another's content.
type reference struct {
	ID     string `json:"id"`
	Source string `json:"source,omitempty"`
}

type environment struct {
	Name string `json:"name"`
}

type service struct {
	Environment reference `json:"environment"`
	// ArtifactID is a package URL; empty where the service is gone.
	ArtifactID string `json:"artifactId,omitempty"`
}

type pipelineRun struct {
	PipelineName string `json:"pipelineName"`
	URI          string `json:"uri"`
	Outcome      string `json:"outcome,omitempty"`
	Errors       string `json:"errors,omitempty"`
}

type taskRun struct {
	TaskName    string    `json:"taskName"`
	PipelineRun reference `json:"pipelineRun"`
	Outcome     string    `json:"outcome,omitempty"`
	Errors      string    `json:"errors,omitempty"`
}

type empty struct{}

// sayings is the table of the mapping.
func sayings(f events.Fact) []saying {
	cluster := clusterName(f.Source)
	switch p := f.Data.(type) {
	case events.GroupDesired:
		if f.Rollout.Generation > 1 || f.Rollout.RequestedAt != "" {
			return nil
		}
		return []saying{{environmentCreated, f.Rollout.Group, environment{f.Rollout.Group}}}
	case events.GroupDeleted:
		return []saying{{environmentDeleted, f.Rollout.Group, environment{f.Rollout.Group}}}
	case events.WorkflowSubmitted:
		return []saying{runOf(f, cluster, pipelineRunStarted, p.WorkflowRef, "", "")}
	case events.RolloutSucceeded:
		return []saying{
			runOf(f, cluster, pipelineRunFinished, p.WorkflowRef, outcomeSuccess, ""),
			{environmentModified, f.Rollout.Group, environment{f.Rollout.Group}},
		}
	case events.RolloutFailed:
		return []saying{runOf(f, cluster, pipelineRunFinished, p.WorkflowRef, outcomeOf(p.Reason), p.Message)}
	case events.NodeStarted:
		return []saying{taskOf(taskRunStarted, p.NodeRef, "", "")}
	case events.NodeSucceeded:
		return []saying{taskOf(taskRunFinished, p.NodeRef, outcomeSuccess, "")}
	case events.NodeFailed:
		return []saying{taskOf(taskRunFinished, p.NodeRef, outcomeFailure, p.Message)}
	case events.ReleaseReady:
		return []saying{serviceOf(readyAs(p.ReleaseRef), f, p.ReleaseRef, purl(f.Rollout.Group, p.Chart, p.Version, ""))}
	case events.ReleaseDeleted:
		return []saying{serviceOf(serviceRemoved, f, p.ReleaseRef, "")}
	case events.ChartPushed:
		return []saying{{artifactPublished, purl(p.Tenant, p.Chart, p.Version, p.Digest), empty{}}}
	default:
		return nil
	}
}

func clusterName(source string) string {
	cluster, err := clusterOf(source)
	if err != nil {
		return ""
	}
	return cluster
}

func runOf(f events.Fact, cluster string, w what, ref events.WorkflowRef, outcome, message string) saying {
	return saying{w, ref.Workflow, pipelineRun{
		PipelineName: f.Rollout.Group + "/" + string(ref.WorkflowType),
		URI:          cluster + "/workflows/" + url.PathEscape(ref.Workflow),
		Outcome:      outcome,
		Errors:       message,
	}}
}

func taskOf(w what, ref events.NodeRef, outcome, message string) saying {
	return saying{w, ref.Node, taskRun{
		TaskName:    ref.Task,
		PipelineRun: reference{ID: ref.Workflow},
		Outcome:     outcome,
		Errors:      message,
	}}
}

func serviceOf(w what, f events.Fact, ref events.ReleaseRef, artifact string) saying {
	return saying{w, ref.Namespace + "/" + ref.Name, service{
		Environment: reference{ID: f.Rollout.Group},
		ArtifactID:  artifact,
	}}
}

// rollback is the end of a rollback's name: <group>-<type>-g<generation>-<hash>[-<attempt>].
var rollback = regexp.MustCompile(`-` + string(events.WorkflowRollback) + `-g[0-9]+-[0-9a-f]{8}(-[0-9]+)?$`)

// readyAs tells what a release that is ready has become. A HelmRelease's first generation
// is its installation; that a later one goes back is known from who wrote it.
func readyAs(ref events.ReleaseRef) what {
	switch {
	case ref.ReleaseGeneration <= 1:
		return serviceDeployed
	case rollback.MatchString(ref.Workflow):
		return serviceRolledBack
	default:
		return serviceUpgraded
	}
}

// outcomeOf translates the reason of a workflow that has failed.
func outcomeOf(reason string) string {
	switch reason {
	case "Error":
		return outcomeError
	case "Terminated":
		return outcomeCancel
	default:
		return outcomeFailure
	}
}

// purl is the package URL of a chart: pkg:helm/<tenant>/<chart>@<version>, and where the
// digest (sha256:<hex>) is known, ?checksum=<digest>.
func purl(tenant, chart, version, digest string) string {
	id := "pkg:helm/" + url.PathEscape(tenant) + "/" + url.PathEscape(chart)
	if version != "" {
		// A plus is a space to whoever reads a query, so it is escaped here too.
		id += "@" + strings.ReplaceAll(url.PathEscape(version), "+", "%2B")
	}
	if digest != "" {
		id += "?checksum=" + digest
	}
	return id
}
