package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// KindReceiver is the kind of a Receiver.
const KindReceiver = "Receiver"

// SecretKeyToken is the key of the token in the Secret of a Receiver.
const SecretKeyToken = "token"

// AnnotationDeploys on a group is which deploy request was done last for which field of
// which application, as JSON: what is told again later, and is older, is not done again.
const AnnotationDeploys = metadataPrefix + "deploys"

// LabelDelivery marks a Secret that holds the values of a deploy request until they are
// written; its value is the UID of the Receiver.
const LabelDelivery = metadataPrefix + "delivery"

// SecretTypeDelivery is the type of such a Secret.
const SecretTypeDelivery = metadataPrefix + "delivery"

// Receiver lets somebody outside of the cluster speak of groups, over HTTP: a registry
// says which chart was pushed, a CI system asks for a deployment.
//
// A Receiver in Orkestra's own namespace may reach any group, one in another namespace
// only groups of which every release goes to that namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=receivers,scope=Namespaced
// +kubebuilder:printcolumn:name="Type",type="string",JSONPath=".spec.type"
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].status"
// +kubebuilder:printcolumn:name="Message",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].message"
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
type Receiver struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ReceiverSpec   `json:"spec,omitempty"`
	Status ReceiverStatus `json:"status,omitempty"`
}

// ReceiverList is a list of receivers.
//
// +kubebuilder:object:root=true
type ReceiverList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Receiver `json:"items"`
}

// ReceiverType is who sends, and so how a delivery is verified and read.
//
// +kubebuilder:validation:Enum=generic-hmac;github;gitlab;dockerhub;harbor;quay;oci;chartmuseum;cloudevents;cdevents
type ReceiverType string

// The types.
const (
	// ReceiverGenericHMAC: a JSON body of ours, signed with HMAC-SHA256 in the header
	// X-Signature-256.
	ReceiverGenericHMAC ReceiverType = "generic-hmac"
	// ReceiverGitHub: the webhooks of GitHub, signed in X-Hub-Signature-256.
	ReceiverGitHub ReceiverType = "github"
	// ReceiverGitLab: the webhooks of GitLab, with the token in X-Gitlab-Token.
	ReceiverGitLab ReceiverType = "gitlab"
	// ReceiverDockerHub: Docker Hub signs nothing; the path alone is the secret.
	ReceiverDockerHub ReceiverType = "dockerhub"
	// ReceiverHarbor: Harbor's webhooks, with the token as its auth header.
	ReceiverHarbor ReceiverType = "harbor"
	// ReceiverQuay: Quay signs nothing; the path alone is the secret.
	ReceiverQuay ReceiverType = "quay"
	// ReceiverOCI: notifications of the CNCF distribution registry, and of others that
	// speak as it does, with the token in Authorization.
	ReceiverOCI ReceiverType = "oci"
	// ReceiverChartMuseum: an entry of ChartMuseum's API with the repository that has it,
	// signed as generic-hmac or with the token in Authorization.
	ReceiverChartMuseum ReceiverType = "chartmuseum"
	// ReceiverCloudEvents: CloudEvents over HTTP, binary, structured or in batches,
	// signed as generic-hmac or with the token in Authorization.
	ReceiverCloudEvents ReceiverType = "cloudevents"
	// ReceiverCDEvents: the same, for events of cdevents.dev only.
	ReceiverCDEvents ReceiverType = "cdevents"
)

// ReceiverSpec says who sends, and what that may do.
//
// +kubebuilder:validation:XValidation:rule="!has(self.deploy) || self.type == 'generic-hmac' || self.type == 'cloudevents'",message="deploy requests come to receivers of type generic-hmac or cloudevents only",fieldPath=".deploy"
type ReceiverSpec struct {
	// Type of the sender.
	Type ReceiverType `json:"type"`

	// Events that are heard, as the sender calls them: push, package, PUSH_ARTIFACT.
	// Upper and lower case are the same. The default is all that are understood.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=50
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	Events []string `json:"events,omitempty"`

	// SecretRef names the Secret with the token, under the key token, in the namespace
	// of the Receiver. The path of the webhook is made of it: another token is another
	// path.
	SecretRef ReceiverSecretRef `json:"secretRef"`

	// Groups that the sender may speak of. One that the sender may not speak of is left
	// alone, whatever a delivery says.
	Groups ReceiverGroups `json:"groups"`

	// Registries that a push may speak of. The default is all.
	//
	// +optional
	// +listType=map
	// +listMapKey=prefix
	// +kubebuilder:validation:MaxItems=50
	Registries []ReceiverRegistry `json:"registries,omitempty"`

	// Deploy says what a deploy request may change. Without it they are refused.
	//
	// +optional
	Deploy *ReceiverDeploy `json:"deploy,omitempty"`

	// DryRun writes nothing: what would have been done is told in events of Kubernetes
	// and in the log.
	//
	// +optional
	DryRun bool `json:"dryRun,omitempty"`

	// Suspend refuses deliveries, and what has been taken in and not yet been done is
	// not done.
	//
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// RateLimit of verified deliveries, for each replica of intake. The default is 600
	// in a minute.
	//
	// +optional
	RateLimit *ReceiverRateLimit `json:"rateLimit,omitempty"`
}

// ReceiverSecretRef names a Secret in the namespace of the Receiver.
type ReceiverSecretRef struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// ReceiverGroups selects groups: those that are named, and those that have the labels.
//
// +kubebuilder:validation:XValidation:rule="has(self.names) || has(self.selector)",message="name groups, or give a selector: {} selects all"
type ReceiverGroups struct {
	// Names of groups.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Names []string `json:"names,omitempty"`

	// Selector of labels of groups; an empty one selects all.
	//
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// ReceiverRegistry is a part of a registry that the sender may speak of.
type ReceiverRegistry struct {
	// Prefix of the repository, <host>[:<port>][/<path>] without a scheme:
	// ghcr.io/an-org. It ends at a slash: ghcr.io/an does not match ghcr.io/an-org.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^[^\s:/?#@]+(:[0-9]+)?(/[^\s:?#@]*)?$`
	Prefix string `json:"prefix"`

	// As is what groups call it, where that is another name: a registry that is known
	// inside of the cluster under an address of its own. It takes the place of Prefix.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^[^\s:/?#@]+(:[0-9]+)?(/[^\s:?#@]*)?$`
	As string `json:"as,omitempty"`
}

// ReceiverField is a field of an application that a deploy request may change.
//
// +kubebuilder:validation:Enum=version;values
type ReceiverField string

// The fields.
const (
	// ReceiverFieldVersion is spec.chart.version of the application.
	ReceiverFieldVersion ReceiverField = "version"
	// ReceiverFieldValues is spec.release.values of the application, all of it.
	ReceiverFieldValues ReceiverField = "values"
)

// ReceiverDeploy is what deploy requests may change.
type ReceiverDeploy struct {
	// Fields that may be changed.
	//
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Fields []ReceiverField `json:"fields"`

	// Applications that may be changed, by name. The default is all of the groups that
	// the Receiver selects.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Applications []string `json:"applications,omitempty"`
}

// ReceiverRateLimit is how many deliveries are taken in.
type ReceiverRateLimit struct {
	// Requests in each period; as many may come at once.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Requests int32 `json:"requests"`

	// Period, 1m by default.
	//
	// +optional
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="must be a duration such as 1s or 1m"
	Period metav1.Duration `json:"period,omitempty,omitzero"`
}

// ReceiverStatus is what was seen of a Receiver.
type ReceiverStatus struct {
	// WebhookPath is the path that the sender is to be given. Whoever knows it and, where
	// the type has a signature, the token may send.
	//
	// +optional
	WebhookPath string `json:"webhookPath,omitempty"`

	// ObservedGeneration is the generation that the status speaks of.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready says whether deliveries are heard.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
