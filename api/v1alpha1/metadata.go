package v1alpha1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names in metadata that users and tools rely on. The prefix is the original's.
const (
	metadataPrefix = "orkestra.azure.microsoft.com/"

	// Finalizer keeps a deleted group until the reverse of it is done.
	Finalizer = metadataPrefix + "finalizer"

	// AnnotationRequestedAt on a group asks for a rollout of an unchanged spec; any
	// new value will do (the semantics of reconcile.fluxcd.io/requestedAt).
	AnnotationRequestedAt = metadataPrefix + "requestedAt"

	// AnnotationRequestedBy on a group is the id of the event for which intake wrote its
	// spec or AnnotationRequestedAt, with the generation that came of it or the value of
	// that annotation, as JSON of {"event","generation","requestedAt"}: what it says of
	// another generation or request no longer holds.
	AnnotationRequestedBy = metadataPrefix + "requested-by"
	// AnnotationChangedBy on a group is the user who changed its spec, or asked for it
	// again, as the admission webhook saw it, as JSON of {"generation","requestedAt",
	// "user"}: what it says of another generation or request no longer holds. A policy
	// of the API server refuses any name but that of whoever makes the request.
	AnnotationChangedBy = metadataPrefix + "changed-by"

	// LabelHeritage with the value Heritage is on everything that Orkestra makes.
	LabelHeritage = metadataPrefix + "heritage"
	Heritage      = "orkestra"
	// LabelOwner is the name of the group, on everything that is made for it.
	LabelOwner = metadataPrefix + "owner"
	// LabelWorkflowType is forward, reverse or rollback, on a Workflow.
	LabelWorkflowType = metadataPrefix + "workflow-type"
	// AnnotationForceDelete on a group that is being deleted lets it go at once,
	// whatever is left of it: its releases are deleted and not waited for.
	AnnotationForceDelete = metadataPrefix + "force-delete"

	// AnnotationOrphan with the value Orphaned is on a group that was deleted with
	// --cascade=orphan, so that this is known when Kubernetes is done with its part of it.
	AnnotationOrphan = metadataPrefix + "orphan"
	Orphaned         = "true"

	// AnnotationReferences on a group is what the rollout that was announced last saw
	// of the Secrets and ConfigMaps that the group refers to,
	// <rollout>/<values>/<credentials>: digests of names, UIDs and resource versions.
	AnnotationReferences = metadataPrefix + "references"
	// AnnotationDigest on a HelmChart is that of the staged archive, sha256:<hex>.
	AnnotationDigest = metadataPrefix + "digest"

	// AnnotationUnusedSince on a HelmChart is when the stager found nobody to refer to
	// it, RFC 3339: it is deleted a while later.
	AnnotationUnusedSince = metadataPrefix + "unused-since"

	// AnnotationNudgedAt on a Workflow is when it was written for no other reason than
	// to have Argo look at it, RFC 3339.
	AnnotationNudgedAt = metadataPrefix + "nudged-at"

	// LabelGeneration is the group's generation, on a Workflow and a HelmRelease.
	LabelGeneration = metadataPrefix + "appgroup-generation"
	// LabelChart is the name of the staged chart, on a HelmRelease.
	LabelChart = metadataPrefix + "chart"
	// LabelApplication is the DNS form of the application's name, on a HelmRelease.
	LabelApplication = metadataPrefix + "application"
	// LabelStorage marks a namespace that only holds Helm's records of the pieces
	// of a group's charts.
	LabelStorage = metadataPrefix + "storage"

	// LabelValues marks a Secret that holds the values of a release, merged from all
	// that the spec refers to. It is immutable, and named by what it holds.
	LabelValues = metadataPrefix + "values"

	// LabelRevision with the value RevisionGood is on a ControllerRevision that was
	// rolled out whole.
	LabelRevision = metadataPrefix + "revision"
	RevisionGood  = "good"

	// AnnotationRevision on a Workflow is the name of the ControllerRevision that it
	// brings the group to: of a forward one its own, of a rollback the one that it goes
	// back to. A reverse has none.
	AnnotationRevision = metadataPrefix + "revision"

	// AnnotationStanding on a Workflow is how many releases of the group it has no node for,
	// since they were as wanted when it was made; not there where it has one for each.
	AnnotationStanding = metadataPrefix + "standing"

	// AnnotationParentChart is the name of the chart that a piece was split from,
	// on a HelmRelease.
	AnnotationParentChart = metadataPrefix + "parent-chart"
	// AnnotationGroupUID is the UID of the group, on a Workflow, a HelmRelease, and a
	// namespace that was made for the group.
	AnnotationGroupUID = metadataPrefix + "group-uid"
	// AnnotationRollout is the identity of the rollout, on a Workflow and, of the
	// workflow that wrote it last, on a HelmRelease, as JSON of
	// {"group","uid","generation","requestedAt"}.
	AnnotationRollout = metadataPrefix + "rollout"
	// AnnotationWorkflow is the workflow that wrote a HelmRelease last.
	AnnotationWorkflow = metadataPrefix + "workflow"
	// AnnotationWorkflowUID is the UID of that workflow: a workflow may be deleted
	// and made again under its name.
	AnnotationWorkflowUID = metadataPrefix + "workflow-uid"
	// AnnotationTask is the name of the release in the graph, on a HelmRelease.
	AnnotationTask = metadataPrefix + "task"
	// AnnotationNode is the node of that workflow for which a HelmRelease was
	// written: <application>.<task>, and <application>.<task>.<executor> where a
	// release has several executors.
	AnnotationNode = metadataPrefix + "node"
	// AnnotationStartedAt is when that workflow wrote a HelmRelease, RFC 3339 with
	// nanoseconds: the release's timeout counts from there.
	AnnotationStartedAt = metadataPrefix + "started-at"
	// AnnotationDependencies lists the tasks that a release waits for, separated
	// by commas, so that the reverse can be found from the cluster alone.
	AnnotationDependencies = metadataPrefix + "dependencies"
	// AnnotationApplicationDependencies lists the applications that the
	// application of a release waits for, separated by commas.
	AnnotationApplicationDependencies = metadataPrefix + "application-dependencies"
	// AnnotationSplit is "true" on every HelmRelease of an application whose chart is
	// split, and not there on that of one that is installed whole.
	AnnotationSplit = metadataPrefix + "split"
	// AnnotationSubchart is the subchart that a HelmRelease installs; it is not
	// there on the release of the application's own chart.
	AnnotationSubchart = metadataPrefix + "subchart"
)

// GoesAlone says whether a group is being deleted without its releases: they, and the
// charts that they are installed from, stay as they are.
func GoesAlone(group metav1.Object) bool {
	return group.GetDeletionTimestamp() != nil && (group.GetAnnotations()[AnnotationOrphan] == Orphaned ||
		slices.Contains(group.GetFinalizers(), metav1.FinalizerOrphanDependents))
}
