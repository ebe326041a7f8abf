package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ApplicationGroupStatus is what was seen of a group.
type ApplicationGroupStatus struct {
	// Applications of the group, as staged and as rolled out, in the order of the spec.
	//
	// +optional
	// +listType=atomic
	Applications []ApplicationStatus `json:"applications,omitempty"`

	// Rollout is the newest workflow of the group.
	//
	// +optional
	Rollout *RolloutStatus `json:"rollout,omitempty"`

	// ObservedGeneration is the generation that Ready speaks of.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// LastSucceededGeneration is the last generation that was rolled out whole.
	//
	// +optional
	LastSucceededGeneration int64 `json:"lastSucceededGeneration,omitempty"`

	// LastHandledReconcileAt is the value of the annotation
	// orkestra.azure.microsoft.com/requestedAt that was handled last.
	//
	// +optional
	LastHandledReconcileAt string `json:"lastHandledReconcileAt,omitempty"`

	// LastUnchangedRollout is the rollout, <uid>/<generation>/<requestedAt>, for which
	// the group was found to be as it should be, without a workflow.
	//
	// +optional
	LastUnchangedRollout string `json:"lastUnchangedRollout,omitempty"`

	// Conditions of the group: see the constants of this package.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RolloutStatus is how far a workflow has come.
type RolloutStatus struct {
	// Revision is the name of the ControllerRevision that the workflow takes the group
	// to; a reverse has none.
	//
	// +optional
	Revision string `json:"revision,omitempty"`
	// Generation of the group that the workflow is for.
	Generation int64 `json:"generation"`
	// Type of the workflow: forward, rollback or reverse.
	Type string `json:"type"`
	// Workflow is the object's name, in the Orkestra namespace.
	Workflow string `json:"workflow"`
	// Phase of the workflow, in Argo's words: Pending, Running, Succeeded, Failed,
	// Error.
	//
	// +optional
	Phase string `json:"phase,omitempty"`
	// Started and Finished are Argo's times.
	//
	// +optional
	Started *metav1.Time `json:"started,omitempty"`
	// +optional
	Finished *metav1.Time `json:"finished,omitempty"`
	// Done of Total release nodes of the workflow have succeeded.
	Done int32 `json:"done"`
	// +optional
	Total int32 `json:"total,omitempty"`
	// Progress is "done/total", for a column.
	//
	// +optional
	Progress string `json:"progress,omitempty"`
}

// ApplicationStatus is what was seen of one application.
type ApplicationStatus struct {
	// Name of the application in the spec.
	Name string `json:"name"`

	ChartStatus `json:",inline"`

	// Subcharts by name, where the chart is split.
	//
	// +optional
	Subcharts map[string]ChartStatus `json:"subcharts,omitempty"`
}

// ChartStatus is what was seen of one chart.
type ChartStatus struct {
	// Chart that was staged, as its repository calls it.
	//
	// +optional
	Chart string `json:"chart,omitempty"`

	// Version that was resolved and staged.
	//
	// +optional
	Version string `json:"version,omitempty"`

	// Staged says that the chart can be installed.
	//
	// +optional
	Staged bool `json:"staged,omitempty"`

	// Error that kept the chart from being staged.
	//
	// +optional
	Error string `json:"error,omitempty"`

	// Phase of the chart's release.
	//
	// +optional
	Phase ReleasePhase `json:"phase,omitempty"`

	// LastTransitionTime is when the phase changed last.
	//
	// +optional
	LastTransitionTime *metav1.Time `json:"lastTransitionTime,omitempty"`

	// Conditions of the chart's release.
	//
	// +optional
	// +listType=atomic
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ReleasePhase is how far a release has come, in one word.
//
// +kubebuilder:validation:Enum=Pending;Progressing;Ready;Failed;Deleting
type ReleasePhase string

// The phases.
const (
	// ReleasePending: there is no HelmRelease yet.
	ReleasePending ReleasePhase = "Pending"
	// ReleaseProgressing: helm-controller is at work.
	ReleaseProgressing ReleasePhase = "Progressing"
	// ReleaseReady: Helm installed what the HelmRelease asks for.
	ReleaseReady ReleasePhase = "Ready"
	// ReleaseFailed: Helm gave up.
	ReleaseFailed ReleasePhase = "Failed"
	// ReleaseDeleting: the HelmRelease is being deleted.
	ReleaseDeleting ReleasePhase = "Deleting"
)
