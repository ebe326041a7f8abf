package v1alpha1

import (
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
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
// +kubebuilder:printcolumn:name="Progress",type="string",JSONPath=".status.rollout.progress"
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

	// Suspend holds the group: no rollout of it is begun, and one that is under way
	// begins nothing more. What runs stays as it is, and a deletion is carried out.
	//
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// NamespaceDeletionPolicy says what becomes of the namespaces that were made for
	// the group when it is deleted. Keep, the default, leaves them. Delete deletes
	// those in which no other group has a release. A namespace that was there
	// before the group is never deleted.
	//
	// +optional
	NamespaceDeletionPolicy NamespaceDeletionPolicy `json:"namespaceDeletionPolicy,omitempty"`

	// Executor says where the steps of releases are run: event, the default, in
	// Orkestra's executor service; pod, each in a pod of the workflow.
	//
	// +optional
	Executor ExecutorMode `json:"executor,omitempty"`

	// Interval at which the group is reconciled though nobody changes it: versions
	// are resolved again, and a HelmRelease that was edited or deleted by hand is put
	// back. Where it is not given, or 0, that happens only when it is asked for.
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

	// Retries of the forward workflow before the strategy is followed. The default
	// is 0.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	Retries int32 `json:"retries,omitempty"`
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

// NamespaceDeletionPolicy is what becomes of a group's namespaces at its end.
//
// +kubebuilder:validation:Enum=Keep;Delete
type NamespaceDeletionPolicy string

// The policies.
const (
	NamespacesKeep   NamespaceDeletionPolicy = "Keep"
	NamespacesDelete NamespaceDeletionPolicy = "Delete"
)

// ExecutorMode is where the steps of releases are run.
//
// +kubebuilder:validation:Enum=event;pod
type ExecutorMode string

// The modes.
const (
	// ExecutorModeEvent: in Orkestra's executor service, woken by events.
	ExecutorModeEvent ExecutorMode = "event"
	// ExecutorModePod: in a pod of the workflow, by Orkestra's executor image.
	ExecutorModePod ExecutorMode = "pod"
)

// Application is one chart of a group. To server-side apply it is one value, which has one owner: several may each
// apply applications of their own to one group.
//
// +structType=atomic
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

	// ParentPlacement is the place of the chart's own release among those of its
	// subcharts: After all of them, which is the default, Before all of them, or
	// Beside them.
	//
	// +optional
	ParentPlacement ParentPlacement `json:"parentPlacement,omitempty"`

	// Executor says where the steps of the application's releases are run. The
	// default is that of the group.
	//
	// +optional
	Executor ExecutorMode `json:"executor,omitempty"`

	// Workflow is the DAG of executors that each release of the application goes
	// through. Where it is empty there is one, of type helmrelease.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=50
	Workflow []Executor `json:"workflow,omitempty"`
}

// ParentPlacement is where a chart's own release stands among those of its subcharts.
//
// +kubebuilder:validation:Enum=After;Before;Beside
type ParentPlacement string

// The placements.
const (
	ParentAfter  ParentPlacement = "After"
	ParentBefore ParentPlacement = "Before"
	ParentBeside ParentPlacement = "Beside"
)

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

	// Digest pins the chart, as sha256:<hex>: that of the archive, or, in an OCI
	// registry, that of the manifest or of the archive.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=71
	// +kubebuilder:validation:Pattern=`^sha256:[a-f0-9]{64}$`
	Digest string `json:"digest,omitempty"`

	// Verify asks for a proof of who made the chart.
	//
	// +optional
	Verify *ChartVerification `json:"verify,omitempty"`

	// AuthSecretRef names a Secret with the credentials of the registry: username and
	// password, or token; tls.crt and tls.key; ca.crt; or one of type
	// kubernetes.io/dockerconfigjson. Its namespace is "default" where it is not
	// given.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="must name a Secret",fieldPath=".name"
	AuthSecretRef *corev1.ObjectReference `json:"authSecretRef,omitempty"`
}

// ChartVerification says how a chart proves who made it.
type ChartVerification struct {
	// Provider of the proof. Provenance is Helm's own: a signed .prov file beside the
	// archive. Cosign is a signature in the OCI registry that has the chart.
	Provider VerificationProvider `json:"provider"`

	// SecretRef names the Secret with the public keys to trust. Every entry is read:
	// an OpenPGP keyring for Provenance, a public key in PEM for Cosign. Its namespace
	// is "default" where it is not given.
	//
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="must name a Secret",fieldPath=".name"
	SecretRef corev1.SecretReference `json:"secretRef"`
}

// VerificationProvider is a kind of proof.
//
// +kubebuilder:validation:Enum=Provenance;Cosign
type VerificationProvider string

// The providers.
const (
	VerifyProvenance VerificationProvider = "Provenance"
	VerifyCosign     VerificationProvider = "Cosign"
)

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

	// Values for the chart. A piece of a split chart gets those that it can see.
	//
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Values *apiextensionsv1.JSON `json:"values,omitempty"`

	// ValuesFrom refers to ConfigMaps and Secrets in the target namespace that hold
	// values, merged in this order, with those of the field values over them. A change
	// of what they hold is rolled out, and rolled back, like a change of the spec.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	ValuesFrom []helmv2.ValuesReference `json:"valuesFrom,omitempty"`

	// ReadyExpr is a CEL expression that must hold before the release counts as
	// ready, besides Helm's own success. Its variable self is the HelmRelease.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	ReadyExpr string `json:"readyExpr,omitempty"`

	// ServiceAccountName that Helm acts as, in the target namespace.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// KubeConfig of another cluster, to install the release there.
	//
	// +optional
	KubeConfig *meta.KubeConfigReference `json:"kubeConfig,omitempty"`

	// MaxHistory is how many records of a release Helm keeps; 0 is all of them. The
	// default is helm-controller's, 5.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxHistory *int `json:"maxHistory,omitempty"`

	// DriftDetection has helm-controller look for, and mend, what was changed by hand
	// in the objects of the release.
	//
	// +optional
	DriftDetection *helmv2.DriftDetection `json:"driftDetection,omitempty"`

	// PostRenderers change what the chart renders before Helm installs it.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	PostRenderers []helmv2.PostRenderer `json:"postRenderers,omitempty"`

	// CommonMetadata is put on all objects of the release.
	//
	// +optional
	CommonMetadata *helmv2.CommonMetadata `json:"commonMetadata,omitempty"`

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
