package doctor

import (
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// Seen is a fact, or why it could not be looked at.
type Seen[T any] struct {
	Value T
	Err   error
}

// Facts are what was seen of an installation.
type Facts struct {
	// Program is how the command line is called, for what is advised.
	Program string
	// Namespace of Orkestra.
	Namespace string
	// Now is when they were seen.
	Now time.Time
	// StuckAfter is how long a rollout or a deletion may take.
	StuckAfter time.Duration

	Server    Seen[Server]
	CRDs      Seen[[]apiextensionsv1.CustomResourceDefinition]
	Workloads Seen[[]Workload]
	// Probes of services that were asked for.
	Probes []Probe
	Bus    Seen[events.TopologyState]
	// BusGiven: somebody said where NATS is; it is not just looked for at the default.
	BusGiven  bool
	Admission Seen[Admission]
	Policies  Seen[[]Policy]
	Access    Seen[[]Access]

	Groups    Seen[[]v1alpha1.ApplicationGroup]
	Receivers Seen[[]v1alpha1.Receiver]
	Workflows Seen[[]wfv1.Workflow]
	Releases  Seen[[]helmv2.HelmRelease]
	Charts    Seen[[]sourcev1.HelmChart]
	// Secrets that Orkestra has made: their metadata alone.
	Secrets Seen[[]metav1.PartialObjectMetadata]
}

// Server is what the API server says of itself.
type Server struct {
	// Version such as "v1.34.1".
	Version string
	// Ahead is by how much its clock is ahead of ours, to the second.
	Ahead time.Duration
}

// Workload is a Deployment or StatefulSet that an installation has.
type Workload struct {
	Kind, Namespace, Name string
	// Component of Orkestra that it runs, by the label of the chart; the name where it has none.
	Component string
	// Ours: the chart of Orkestra has made it.
	Ours           bool
	Image          string
	Desired, Ready int32
	// Env are the variables of its first container that have a plain value.
	Env map[string]string
}

// Shelf is the name of ChartMuseum's probe.
const Shelf = "chartmuseum"

// Probe is what a service said that was asked whether it is ready.
type Probe struct {
	Name, URL string
	// Err is why it is not, nil where it is.
	Err error
}

// Admission is what became of a group that contradicts itself and was to be created, as a
// dry run.
type Admission struct {
	// Refusal by the API server; empty: it took the group.
	Refusal string
	// Webhooks that are asked about groups.
	Webhooks []Webhook
}

// Webhook of an admission configuration.
type Webhook struct {
	Name     string
	CABundle []byte
	// Mutating: it notes who changed a group.
	Mutating bool
}

// Policy is a ValidatingAdmissionPolicy.
type Policy struct {
	Name string
	// Denies: a binding of it says so.
	Denies bool
	// Warnings of the API server's type check.
	Warnings []string
}

// Access is what a service may do.
type Access struct {
	Service, Account string
	// Missing: there is no such service account.
	Missing bool
	// Denied is what it needs and may not do.
	Denied []Need
}
