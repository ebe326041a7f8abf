package v1alpha1

import (
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ApplicationGroup is a set of Helm applications, with dependencies among them
// and among their subcharts, that comes up, changes and goes away as one.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=applicationgroups,scope=Cluster,shortName={ag,appgroup}
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].status"
// +kubebuilder:printcolumn:name="Reason",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].reason"
// +kubebuilder:printcolumn:name="Message",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].message"
// +kubebuilder:printcolumn:name="RolledBack",type="string",JSONPath=".status.conditions[?(@.type==\"RollbackWorkflowSucceeded\")].status"
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 63",message="metadata.name may have at most 63 characters: it becomes the value of a label"
type ApplicationGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ApplicationGroupSpec   `json:"spec,omitempty"`
	Status ApplicationGroupStatus `json:"status,omitempty"`
}

// ApplicationGroupList is a list of groups.
//
// +kubebuilder:object:root=true
type ApplicationGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ApplicationGroup `json:"items"`
}

// ApplicationGroupSpec is what the owner of a group asks for.
type ApplicationGroupSpec struct {
	// Applications of the group. Their order in the list means nothing: what
	// comes before what is said by dependencies.
	//
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	Applications []Application `json:"applications"`

	// Remediation says what becomes of the group when a rollout of it fails.
	//
	// +optional
	Remediation *Remediation `json:"remediation,omitempty"`

	// RevisionHistoryLimit is how many revisions that were rolled out whole are kept,
	// the newest of which a rollback goes to. The default is 5.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	RevisionHistoryLimit *int32 `json:"revisionHistoryLimit,omitempty"`

	// Interval between reconciliations of a group that does not change.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="must be a duration such as 90s, 10m or 1h30m"
	Interval *metav1.Duration `json:"interval,omitempty"`
}

// The API server reckons what a rule may cost at worst. It allows the one on
// dependencies here, and neither in subcharts nor in a workflow: Validate has it.

// Remediation of a failed rollout.
type Remediation struct {
	// Strategy after a failed rollout. Rollback, the default, takes the whole group
	// back to its last good revision, and removes everything where there is none.
	// Reverse removes everything. None leaves all as it is, for a look.
	//
	// +optional
	Strategy RemediationStrategy `json:"strategy,omitempty"`
}

// RemediationStrategy is what becomes of a group whose rollout has failed.
//
// +kubebuilder:validation:Enum=Rollback;Reverse;None
type RemediationStrategy string

// The strategies.
const (
	RemediationRollback RemediationStrategy = "Rollback"
	RemediationReverse  RemediationStrategy = "Reverse"
	RemediationNone     RemediationStrategy = "None"
)

// Application is one chart of a group.
//
// +kubebuilder:validation:XValidation:rule="!has(self.dependencies) || !(self.name in self.dependencies)",message="an application may not depend on itself",fieldPath=".dependencies"
type Application struct {
	DAG `json:",inline"`

	// Spec of the application: its chart, its release, the order of its parts.
	Spec ApplicationSpec `json:"spec"`
}

// DAG is a name and the names that must be done before it.
type DAG struct {
	// Name, unique among its siblings. It becomes part of object names: characters
	// that those may not have are replaced by "-".
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`
	Name string `json:"name"`

	// Dependencies are the names of siblings that must be ready before this one
	// is begun. To say one twice is to say it once.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=63
	Dependencies []string `json:"dependencies,omitempty"`
}

// ApplicationSpec says what to install and how.
type ApplicationSpec struct {
	// Chart to install, and where it is.
	Chart ChartRef `json:"chart"`

	// Release carries the options of the HelmReleases that the application becomes.
	Release Release `json:"release"`

	// Subcharts to release on their own, in the order that their dependencies
	// give. Where the list is empty the chart is not split and is one release.
	// A subchart that is not named here is, in a chart that is split, a release
	// without an order among its siblings.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=500
	Subcharts []DAG `json:"subcharts,omitempty"`

	// Workflow is the DAG of executors that each release of the application goes
	// through. Where it is empty there is one, of type helmrelease.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=50
	Workflow []Executor `json:"workflow,omitempty"`
}

// ChartRef is a chart in a registry.
type ChartRef struct {
	// URL of the Helm repository: http, https, or oci.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^(https?|oci)://[^\s/?#]+\S*$`
	URL string `json:"url"`

	// Name of the chart in the repository.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=250
	Name string `json:"name"`

	// Version of the chart: exact, or a semver range as Helm reads it. The
	// default takes the newest that is not a pre-release.
	//
	// +optional
	// +kubebuilder:default="*"
	// +kubebuilder:validation:MaxLength=256
	Version string `json:"version,omitempty"`

	// AuthSecretRef names a Secret with the credentials of the registry: username,
	// password, tls.crt, tls.key, ca.crt. Its namespace is "default" where it is
	// not given.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="must name a Secret",fieldPath=".name"
	AuthSecretRef *corev1.ObjectReference `json:"authSecretRef,omitempty"`
}

// Release carries what goes into the spec of a HelmRelease.
type Release struct {
	// Interval at which helm-controller looks at the release again.
	//
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="must be a duration such as 90s, 10m or 1h30m"
	Interval metav1.Duration `json:"interval,omitempty,omitzero"`

	// TargetNamespace is where the release is installed. It is created when missing.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	TargetNamespace string `json:"targetNamespace"`

	// Timeout of each Helm action, and of the step of the workflow that waits for
	// it. The default is 5m.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="must be a duration such as 90s, 10m or 1h30m"
	Timeout *metav1.Duration `json:"timeout,omitempty"`

	// Values for the chart. Every piece of a split chart gets all of them.
	//
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Values *apiextensionsv1.JSON `json:"values,omitempty"`

	// Install holds options of the Helm install action.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.timeout) || duration(self.timeout) >= duration('0s')",message="must be a duration such as 90s, 10m or 1h30m",fieldPath=".timeout"
	// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || !has(self.strategy.retryInterval) || duration(self.strategy.retryInterval) >= duration('0s')",message="must be a duration such as 90s, 10m or 1h30m",fieldPath=".strategy.retryInterval"
	Install *helmv2.Install `json:"install,omitempty"`

	// Upgrade holds options of the Helm upgrade action.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.timeout) || duration(self.timeout) >= duration('0s')",message="must be a duration such as 90s, 10m or 1h30m",fieldPath=".timeout"
	// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || !has(self.strategy.retryInterval) || duration(self.strategy.retryInterval) >= duration('0s')",message="must be a duration such as 90s, 10m or 1h30m",fieldPath=".strategy.retryInterval"
	Upgrade *helmv2.Upgrade `json:"upgrade,omitempty"`

	// Rollback holds options of the Helm rollback action.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.timeout) || duration(self.timeout) >= duration('0s')",message="must be a duration such as 90s, 10m or 1h30m",fieldPath=".timeout"
	Rollback *helmv2.Rollback `json:"rollback,omitempty"`

	// Uninstall holds options of the Helm uninstall action.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.timeout) || duration(self.timeout) >= duration('0s')",message="must be a duration such as 90s, 10m or 1h30m",fieldPath=".timeout"
	Uninstall *helmv2.Uninstall `json:"uninstall,omitempty"`

	// Test holds options of the Helm test action.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.timeout) || duration(self.timeout) >= duration('0s')",message="must be a duration such as 90s, 10m or 1h30m",fieldPath=".timeout"
	Test *helmv2.Test `json:"test,omitempty"`
}

// ExecutorType says what runs a step of a release.
//
// +kubebuilder:validation:Enum=helmrelease;keptn;custom
type ExecutorType string

// The executor types of the original.
const (
	ExecutorHelmRelease ExecutorType = "helmrelease"
	ExecutorKeptn       ExecutorType = "keptn"
	ExecutorCustom      ExecutorType = "custom"
)

// Executor is one step of the DAG that each release of an application goes through.
//
// +kubebuilder:validation:XValidation:rule="!has(self.type) || self.type != 'custom' || (has(self.image) && has(self.image.image) && size(self.image.image) > 0)",message="a custom executor runs a container: name its image in image.image",fieldPath=".image"
type Executor struct {
	DAG `json:",inline"`

	// Type of the executor.
	//
	// +optional
	// +kubebuilder:default=helmrelease
	Type ExecutorType `json:"type,omitempty"`

	// Image is the container that a custom executor runs.
	//
	// +optional
	Image *corev1.Container `json:"image,omitempty"`

	// Params are handed to the executor as they are.
	//
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Params *apiextensionsv1.JSON `json:"params,omitempty"`
}

// ApplicationGroupStatus is what was seen of a group.
type ApplicationGroupStatus struct {
	// Applications of the group, as staged.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	Applications []ApplicationStatus `json:"applications,omitempty"`

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

	// Conditions of the group: see the constants of this package.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
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

	// Conditions of the chart's release.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
