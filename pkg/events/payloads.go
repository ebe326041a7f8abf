package events

// Type is the CloudEvents type of a fact: dev.orkestra.<thing>.<what happened>.v1.
// A payload whose meaning changes becomes a new type.
type Type string

// The facts that the services say, in the order in which a rollout says them.
const (
	// TypeGroupDesired: intake saw a spec (or a request) that is not rolled out yet.
	TypeGroupDesired Type = "dev.orkestra.group.desired.v1"
	// TypeGroupRejected: intake found the spec invalid; the rollout ends here.
	TypeGroupRejected Type = "dev.orkestra.group.rejected.v1"
	// TypeGroupSuspended: the group is held; what is under way begins nothing more.
	TypeGroupSuspended Type = "dev.orkestra.group.suspended.v1"
	// TypeGroupDeleting: the group carries a deletion timestamp.
	TypeGroupDeleting Type = "dev.orkestra.group.deleting.v1"
	// TypeGroupDeleted: intake let the group go; everything that it had made is gone.
	TypeGroupDeleted Type = "dev.orkestra.group.deleted.v1"
	// TypeChartsStaged: every chart of the group can be installed now.
	TypeChartsStaged Type = "dev.orkestra.charts.staged.v1"
	// TypeChartsFailed: a chart cannot be staged; the rollout waits for a change.
	TypeChartsFailed Type = "dev.orkestra.charts.failed.v1"
	// TypeWorkflowSubmitted: the compiler submitted a workflow.
	TypeWorkflowSubmitted Type = "dev.orkestra.workflow.submitted.v1"
	// TypeWorkflowRejected: no workflow could be made of the group.
	TypeWorkflowRejected Type = "dev.orkestra.workflow.rejected.v1"
	// TypeNodeStarted: Argo activated a release node: its parents are done.
	TypeNodeStarted Type = "dev.orkestra.node.started.v1"
	// TypeNodeSucceeded: a release node is settled in Argo, and its children may begin.
	TypeNodeSucceeded Type = "dev.orkestra.node.succeeded.v1"
	// TypeNodeFailed: a release node is settled in Argo, and nothing after it begins.
	TypeNodeFailed Type = "dev.orkestra.node.failed.v1"
	// TypeReleaseReady: a HelmRelease of the group came to rest for one of its
	// generations, and well.
	TypeReleaseReady Type = "dev.orkestra.release.ready.v1"
	// TypeReleaseFailed: a HelmRelease of the group came to rest for one of its
	// generations, and failed.
	TypeReleaseFailed Type = "dev.orkestra.release.failed.v1"
	// TypeReleaseExpired: a HelmRelease of the group did not come to rest within its timeout.
	TypeReleaseExpired Type = "dev.orkestra.release.expired.v1"
	// TypeReleaseDeleted: a HelmRelease of the group is gone.
	TypeReleaseDeleted Type = "dev.orkestra.release.deleted.v1"
	// TypeRolloutUnchanged: the group is as the rollout asks for already; there is no
	// workflow.
	TypeRolloutUnchanged Type = "dev.orkestra.rollout.unchanged.v1"
	// TypeRolloutSucceeded: a workflow has finished, and well.
	TypeRolloutSucceeded Type = "dev.orkestra.rollout.succeeded.v1"
	// TypeRolloutFailed: a workflow has finished, and failed.
	TypeRolloutFailed Type = "dev.orkestra.rollout.failed.v1"
	// TypeWebhookReceived: intake verified a delivery of a Receiver; what it asks for is
	// done next.
	TypeWebhookReceived Type = "dev.orkestra.webhook.received.v1"
	// TypeChartPushed: a chart version is new in the staging repository, whoever
	// pushed it.
	TypeChartPushed Type = "dev.orkestra.chart.pushed.v1"
)

// WorkflowType says which way a workflow walks the graph. It is the value of the
// label orkestra.azure.microsoft.com/workflow-type.
type WorkflowType string

// The workflow types of the original.
const (
	WorkflowForward  WorkflowType = "forward"
	WorkflowReverse  WorkflowType = "reverse"
	WorkflowRollback WorkflowType = "rollback"
)

// Payload is the data of a fact: a struct of this file. Its JSON is described by
// a schema of the same type.
type Payload interface {
	// EventType is the fact's CloudEvents type.
	EventType() Type
	// Key tells apart the facts of one type that one rollout says: a node, a
	// release and its generation. It is empty where a rollout says it once.
	Key() string
}

// Standalone is a payload that is about no rollout: the fact's Rollout is empty, and
// its id is <what>/<key>.
type Standalone interface {
	Payload
	// About is the name of what it is about; it ends the fact's subject, and is the
	// event's partition key.
	About() string
}

// Origin is who asked for something, as far as the object tells.
type Origin struct {
	// Manager is the field manager that wrote what is asked for (managedFields):
	// kubectl-client-side-apply, kustomize-controller, orkestra-intake.
	Manager string `json:"manager,omitempty"`
	// User is the name under which the API server knew who wrote it, as the admission
	// webhook saw it; empty where that does not run.
	User string `json:"user,omitempty"`
	// Event is the id of the event for which it was written: that of a webhook.
	Event string `json:"event,omitempty"`
}

// GroupDesired asks for the rollout that the event names.
//
// Said by: intake. Then: ChartsStaged, ChartsFailed.
type GroupDesired struct {
	Origin Origin `json:"origin,omitzero"`
}

// GroupRejected says why a spec is refused before anything is done for it.
//
// Said by: intake.
type GroupRejected struct {
	// Reason is a CamelCase word, as in a condition.
	Reason string `json:"reason"`
	// Message names the field and what to change.
	Message string `json:"message"`
}

// GroupSuspended asks for a pause of what is under way.
//
// Said by: intake.
type GroupSuspended struct {
	Origin Origin `json:"origin,omitzero"`
}

// GroupDeleting asks for the reverse of everything.
//
// Said by: intake. Then: WorkflowSubmitted, GroupDeleted.
type GroupDeleting struct {
	Origin Origin `json:"origin,omitzero"`
}

// GroupDeleted is the last that is said of a group.
//
// Said by: intake.
type GroupDeleted struct{}

// ChartsStaged says that each chart is in the staging repository, and that a
// HelmChart in the cluster has its artifact ready, so that a HelmRelease that
// refers to it fetches nothing.
//
// Said by: stager. Then: WorkflowSubmitted, WorkflowRejected, RolloutUnchanged.
type ChartsStaged struct {
	// Applications in the order of the spec.
	Applications []StagedApplication `json:"applications"`
}

// StagedApplication is one application's chart as it was resolved and staged.
type StagedApplication struct {
	// Name of the application in the spec.
	Name string `json:"name"`
	// Chart and Version as resolved in the primary registry (Version is exact).
	Chart   string `json:"chart"`
	Version string `json:"version"`
	// Digest of the upstream archive, sha256:<hex>.
	Digest string `json:"digest"`
	// Pieces: one per release, subcharts sorted by name, the parent last. An
	// application that is not split has the parent only.
	Pieces []StagedPiece `json:"pieces"`
	// Warnings are about what the spec says and the chart does not bear out, such
	// as an order for a subchart that the values disable.
	Warnings []string `json:"warnings,omitempty"`
}

// StagedPiece is one staged archive: what one HelmRelease installs.
type StagedPiece struct {
	// Subchart is the name (or alias) of the first-level dependency that the
	// piece installs; empty for the parent.
	Subchart string `json:"subchart,omitempty"`
	// SubchartVersion is the version of the subchart itself; empty for the parent.
	SubchartVersion string `json:"subchartVersion,omitempty"`
	// Chart and Version as in the staging repository.
	Chart   string `json:"chart"`
	Version string `json:"version"`
	// Digest of the staged archive, sha256:<hex>.
	Digest string `json:"digest"`
	// HelmChart is the name of the source-controller object in the Orkestra namespace.
	HelmChart string `json:"helmChart"`
	// ValuePaths are the paths into the application's values, dotted, of all that the
	// piece can see of them: where nothing below them has changed, the piece renders
	// what it did. Empty is everything.
	ValuePaths []string `json:"valuePaths,omitempty"`
}

// ChartsFailed names the first application whose chart could not be staged.
//
// Said by: stager.
type ChartsFailed struct {
	// Application is its name in the spec.
	Application string `json:"application"`
	// Chart, Version and URL of the registry as the spec has them.
	Chart   string `json:"chart"`
	Version string `json:"version,omitempty"`
	URL     string `json:"url"`
	// Reason is one of the reasons of the condition Staged, and Message what is wrong.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// WorkflowRef names a workflow of the group.
type WorkflowRef struct {
	// Workflow is the object's name, in the Orkestra namespace.
	Workflow string `json:"workflow"`
	// WorkflowUID is empty where the object was not made.
	WorkflowUID string `json:"workflowUID,omitempty"`
	// WorkflowType is forward, reverse or rollback.
	WorkflowType WorkflowType `json:"workflowType"`
}

// WorkflowSubmitted says that Argo has the workflow.
//
// Said by: compiler. Then: NodeStarted, RolloutSucceeded, RolloutFailed.
type WorkflowSubmitted struct {
	WorkflowRef
	// Releases is the number of release nodes.
	Releases int `json:"releases"`
}

// WorkflowRejected says why there is no workflow.
//
// Said by: compiler.
type WorkflowRejected struct {
	// WorkflowType is forward, reverse or rollback.
	WorkflowType WorkflowType `json:"workflowType"`
	// Reason is one of the reasons of the condition Compiled, and Message what is wrong.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// NodeRef names a release node of a workflow.
type NodeRef struct {
	WorkflowRef
	// Node is the ID that Argo gave to the node.
	Node string `json:"node"`
	// Task is the node's place in the workflow: <application>.<task>, and
	// <application>.<task>.<executor> where a release has several executors.
	Task string `json:"task"`
}

// NodeStarted says that Argo waits for the node's release.
//
// Said by: watcher. Then: ReleaseReady, ReleaseFailed, ReleaseExpired, ReleaseDeleted,
// NodeSucceeded, NodeFailed.
type NodeStarted struct{ NodeRef }

// NodeSucceeded says that Argo has the node's success.
//
// Said by: watcher. Then: NodeStarted, RolloutSucceeded.
type NodeSucceeded struct{ NodeRef }

// NodeFailed says that Argo has the node's failure.
//
// Said by: watcher. Then: RolloutFailed.
type NodeFailed struct {
	NodeRef
	// Message is why, in the words of whoever settled the node.
	Message string `json:"message"`
}

// ReleaseRef names a HelmRelease and the workflow that wants it so.
type ReleaseRef struct {
	// Workflow is the workflow that wrote the HelmRelease last.
	Workflow string `json:"workflow"`
	// Namespace and Name of the HelmRelease, and its UID.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// ReleaseUID is the HelmRelease's UID.
	ReleaseUID string `json:"releaseUID"`
	// ReleaseGeneration is the HelmRelease's own generation.
	ReleaseGeneration int64 `json:"releaseGeneration"`
	// Task is the node's place in the workflow, as in NodeRef.
	Task string `json:"task"`
}

// ReleaseReady says that Helm installed what the HelmRelease asks for.
//
// Said by: watcher. Then: NodeSucceeded.
type ReleaseReady struct {
	ReleaseRef
	// Chart and Version that are installed.
	Chart   string `json:"chart"`
	Version string `json:"version"`
}

// ReleaseFailed says that Helm gave up, in Helm's words.
//
// Said by: watcher. Then: NodeFailed.
type ReleaseFailed struct {
	ReleaseRef
	// Reason and Message are those of the HelmRelease's condition.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// ReleaseExpired says that the HelmRelease did not come to rest in time.
//
// Said by: watcher. Then: NodeFailed.
type ReleaseExpired struct {
	ReleaseRef
	// TimeoutSeconds is the release's timeout.
	TimeoutSeconds int64 `json:"timeoutSeconds"`
}

// ReleaseDeleted says that the HelmRelease is gone from the API server, and
// with it, by its finalizer, the Helm release.
//
// Said by: watcher. Then: NodeSucceeded, GroupDeleted.
type ReleaseDeleted struct{ ReleaseRef }

// RolloutUnchanged says that there is nothing to do.
//
// Said by: compiler.
type RolloutUnchanged struct {
	// Releases that are as they should be.
	Releases int `json:"releases"`
}

// RolloutSucceeded says that a workflow has done all that it was for.
//
// Said by: watcher. Then: GroupDeleted.
type RolloutSucceeded struct{ WorkflowRef }

// RolloutFailed says that a workflow has ended without.
//
// Said by: watcher. Then: WorkflowSubmitted, WorkflowRejected.
type RolloutFailed struct {
	WorkflowRef
	// Reason is Failed, Error or Terminated, and Message says what failed.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Task is the first release node that failed, where one did.
	Task string `json:"task,omitempty"`
}

// WebhookReceived is one verified delivery to a Receiver, with what it asks for and
// nothing else of its body: that may hold anything.
//
// Said by: intake. Then: GroupDesired.
type WebhookReceived struct {
	// Namespace and Receiver name the Receiver, ReceiverUID and ReceiverGeneration its
	// object as it was.
	Namespace          string `json:"namespace"`
	Receiver           string `json:"receiver"`
	ReceiverUID        string `json:"receiverUID"`
	ReceiverGeneration int64  `json:"receiverGeneration"`
	// ReceiverType is spec.type of the Receiver: github, harbor, cloudevents.
	ReceiverType string `json:"receiverType"`
	// Delivery is the sender's id of the delivery, else a digest of its body under the
	// Receiver's token (hmac-sha256:<hex>): a bare digest would let a secret in it be guessed.
	Delivery string `json:"delivery"`
	// Event is what the sender calls it: push, package, PUSH_ARTIFACT.
	Event string `json:"event,omitempty"`
	// Charts that were pushed.
	Charts []ChartVersion `json:"charts,omitempty"`
	// Deploys are changes of groups that were asked for.
	Deploys []DeployRequest `json:"deploys,omitempty"`
	// Reconcile asks for the groups that the Receiver selects, because something has
	// changed that the sender does not name.
	Reconcile bool `json:"reconcile,omitempty"`
	// DryRun: nothing is written, and what would have been is logged.
	DryRun bool `json:"dryRun,omitempty"`
}

// ChartVersion is a version of a chart in a registry.
type ChartVersion struct {
	// Registry is host[:port][/path] of the repository, without a scheme; the chart's
	// name is not part of it.
	Registry string `json:"registry"`
	// Name and Version of the chart.
	Name    string `json:"name"`
	Version string `json:"version"`
	// Digest is sha256:<hex>: of the manifest in an OCI registry, of the archive
	// elsewhere; empty where the sender does not say.
	Digest string `json:"digest,omitempty"`
}

// DeployRequest asks for a change of one application of a group.
type DeployRequest struct {
	// Group and Application name what is to change.
	Group       string `json:"group"`
	Application string `json:"application"`
	// Version of the chart, empty where it stays.
	Version string `json:"version,omitempty"`
	// ValuesSecret names the Secret, in the Orkestra namespace, that holds the values
	// that are asked for until they are written: they are not said in an event.
	ValuesSecret string `json:"valuesSecret,omitempty"`
}

// ChartPushed says that a chart version is in the staging repository that was not
// there before.
//
// Said by: stager.
type ChartPushed struct {
	// Tenant is the repository path in ChartMuseum: the group's, where Orkestra staged it.
	Tenant string `json:"tenant"`
	// Chart and Version as in the staging repository.
	Chart   string `json:"chart"`
	Version string `json:"version"`
	// Digest of the archive, sha256:<hex>.
	Digest string `json:"digest"`
}
