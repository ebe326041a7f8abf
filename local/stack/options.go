// Package stack brings up a whole Orkestra on one Linux machine: a real Kubernetes control plane with a simulated node,
// Argo, Flux, ChartMuseum and NATS as plain processes on loopback, and Orkestra's own services beside them.
//
// It needs Go and nothing else: no root, no container engine, no image registry. Charts are installed for real, only
// their pods are simulated. Everything that it starts is recorded in one folder (Options.Dir), so that another process
// can look at it, mend it and take it down, and so that two stacks can live side by side.
package stack

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Namespace is where our services, their Workflows and Argo's controller are.
const Namespace = "orkestra"

// fluxNamespace is where Flux's controllers believe to run.
const fluxNamespace = "flux-system"

// Services are Orkestra's own services, in the order in which an event passes through them.
var Services = []string{"intake", "stager", "compiler", "executor", "watcher"}

// Options say what Up brings up. Only Root is required.
type Options struct {
	// Root is the checkout: the servers' modules, the services, deploy/crds and deploy/policies are found below it.
	Root string
	// Dir keeps the state of this stack: records, data, logs, certificates. Default: Root/.local.
	// Executables are always shared in Root/.local/bin.
	Dir string

	// Kubeconfig is the file of a cluster to use instead of one of our own, such as one of kind. No Kubernetes is started
	// then, and the cluster is not asked to call intake's admission webhook, which it could not reach; Argo, Flux and the
	// rest are processes of this machine all the same, so the cluster must not have them itself. Down leaves the CRDs
	// and whatever else is in the cluster. Default, also for the kubeconfig of this very stack: a cluster of our own.
	Kubeconfig string

	// Node is what plays the node of a cluster of our own. Default: Simulated.
	Node Node
	// Images that a node of containerd is given beside those that it needs: names of images or of sets of tools/images.
	Images []string

	// KubernetesOnly leaves the cluster as it comes: no NATS, no ChartMuseum, no Argo, no Flux, none of their CRDs and none of
	// ours. It is for who installs all that into it.
	KubernetesOnly bool
	// Services also builds and starts our own services. Without it, those that run already are left alone.
	Services bool
	// Replicas of each of our services. Default: 1. A second replica of intake is the process "intake-2".
	Replicas int
	// ServiceArgs are appended to the flags of every replica of the service that they are keyed by.
	ServiceArgs map[string][]string
	// ServerArgs are appended to the flags of the server that they are keyed by, such as "helm-controller".
	ServerArgs map[string][]string
	// LogLevel of our services. Default: info.
	LogLevel string

	// NATS is how many servers the bus is: 1, or a cluster of 3 or 5, whose streams are held by as many. What one server
	// has stored is not taken over by a cluster, nor the other way round. Default: 1. The second server is the process
	// "nats-2".
	NATS int

	// Audit has the API server write down what our services ask of it, into AuditLog. Default: it does not.
	Audit bool

	// RequeueTime is how long Argo's controller waits before it looks at a Workflow again, and so the delay of every
	// edge. Default: 100 ms; Argo's own default is 10 s.
	RequeueTime time.Duration

	// Log hears what is being done, a line each. Default: nothing is said.
	Log io.Writer
}

// layout is where the files of a stack are.
type layout struct {
	root, dir, bin, share string
	// foreign is the kubeconfig of a cluster that is not ours; empty: it is.
	foreign string
}

func (o Options) layout() (layout, error) {
	if o.Root == "" {
		return layout{}, errors.New("finding the checkout: Options.Root is empty")
	}
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return layout{}, fmt.Errorf("finding the checkout: %w", err)
	}
	shared := filepath.Join(root, ".local")
	dir, err := filepath.Abs(cmp.Or(o.Dir, shared))
	if err != nil {
		return layout{}, fmt.Errorf("finding the folder of the stack: %w", err)
	}
	bin := filepath.Join(shared, "bin")
	l := layout{root: root, dir: dir, bin: bin, share: shareOf(bin)}
	if o.Kubeconfig == "" {
		return l, nil
	}
	foreign, err := filepath.Abs(o.Kubeconfig)
	if err != nil {
		return layout{}, fmt.Errorf("finding the kubeconfig: %w", err)
	}
	// Who has sourced the file env has our own in KUBECONFIG, and means no other cluster by that.
	if foreign != l.kubeconfig() {
		l.foreign = foreign
	}
	return l, nil
}

// shareOf is where Build puts the manifests that belong to the executables of bin: CRDs, and the stages of kwok.
func shareOf(bin string) string { return filepath.Join(filepath.Dir(bin), "share") }

func (l layout) path(elem ...string) string {
	return filepath.Join(append([]string{l.dir}, elem...)...)
}

func (l layout) kubeconfig() string { return cmp.Or(l.foreign, l.path("kubeconfig")) }
func (l layout) envFile() string    { return l.path("env") }
func (l layout) lockFile() string   { return l.path("lock") }
func (l layout) portsFile() string  { return l.path("ports.json") }
func (l layout) pki(elem ...string) string {
	return filepath.Join(append([]string{l.path("pki")}, elem...)...)
}
func (l layout) data(name string) string    { return l.path("data", name) }
func (l layout) record(name string) string  { return l.path("run", name+".json") }
func (l layout) logFile(name string) string { return l.path("log", name+".log") }

// mine are the entries of Dir that a stack makes, and that wiping it removes. The executables are not among them.
var mine = []string{"run", "log", "pki", "data", "node", "home", "tmp", "accounts", "nats", "chartmuseum", "audit-policy.yaml", "kubeconfig", "env", "ports.json", "lock"}

func (l layout) makeDirs() error {
	// source-controller, unlike the others, does not make its own.
	for _, d := range []string{"run", "log", "pki", "data/source", "home", "tmp", "accounts", "nats"} {
		if err := os.MkdirAll(l.path(d), 0o700); err != nil {
			return fmt.Errorf("making the folder of the stack: %w", err)
		}
	}
	return nil
}

// replicaName is the name of the process of a service's replica, counted from 1: "intake", then "intake-2".
func replicaName(service string, replica int) string {
	if replica == 1 {
		return service
	}
	return fmt.Sprintf("%s-%d", service, replica)
}

// say writes one line of progress.
func say(w io.Writer, format string, args ...any) {
	// Progress is a courtesy: who closed the pipe does not want it, and the stack comes up all the same.
	_, _ = fmt.Fprintf(w, format+"\n", args...)
}
