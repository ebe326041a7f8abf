// Package plan is what the compiler hands to the executors: for each node of a
// workflow what is to be done, in Secrets that the workflow owns, because the
// values of a release may be secret and a workflow may be seen by many.
package plan

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

// LabelWorkflow is on each Secret of a plan: the name of the workflow.
const LabelWorkflow = "orkestra.azure.microsoft.com/workflow"

// SecretType is the type of the Secrets of a plan.
const SecretType corev1.SecretType = "orkestra.azure.microsoft.com/plan"

// maxChunk is how much of a plan goes into one Secret, in bytes. The API server
// takes 1 MiB of data (corev1.MaxSecretSize), etcd 1.5 MiB of request, in which
// data is base64.
const maxChunk = 900 << 10

// Action is what a node does with its HelmRelease.
type Action string

// The actions of the original's executors.
const (
	Install Action = "install"
	Delete  Action = "delete"
)

// Kind is what a node is about.
type Kind string

// The kinds.
const (
	// Release, which the empty kind is too: a HelmRelease is written or deleted.
	Release Kind = "release"
	// Job: a Job is run to its end. The delete of it does nothing.
	Job Kind = "job"
	// Wait: an object is looked at until it is as it should be.
	Wait Kind = "wait"
	// Prepare: what a pod's HelmRelease needs is made: its namespaces and values.
	Prepare Kind = "prepare"
)

// Node is one node of a workflow that an executor runs.
type Node struct {
	// Task is the node's place in the workflow: <application>.<task>, and
	// <application>.<task>.<executor> where a release has several executors. It is
	// the name that Argo gives to the node, without the workflow's name.
	Task string `json:"task"`
	// Action says whether the HelmRelease is to be there or gone.
	Action Action `json:"action"`
	// Release to apply; only its name and namespace matter to Delete.
	Release *helmv2.HelmRelease `json:"release"`
	// Kind of the node; Release where it is empty. Release is set in all kinds: of a
	// Job it is the release that the step belongs to.
	Kind Kind `json:"kind,omitempty"`
	// Values is an immutable Secret, named by what it holds, that the release refers
	// to, to be made before it; nil where there is none.
	Values *corev1.Secret `json:"values,omitempty"`
	// ReadyExpr is a CEL expression over the HelmRelease, self, that must hold, too,
	// before the node has succeeded.
	ReadyExpr string `json:"readyExpr,omitempty"`
	// Job to run, of kind Job, named by what it and the release are.
	Job *batchv1.Job `json:"job,omitempty"`
	// Wait is what to wait for, of kind Wait, with its namespace.
	Wait *v1alpha1.WaitFor `json:"wait,omitempty"`
	// Timeout of a node of kind Job or Wait, from its activation.
	Timeout metav1.Duration `json:"timeout,omitzero"`
}

// Secrets packs the nodes into as many Secrets as they need, named
// <workflow>-plan-<n>: the same nodes give the same Secrets.
func Secrets(workflow, namespace string, labels map[string]string, nodes []Node) ([]*corev1.Secret, error) {
	nodes = append([]Node(nil), nodes...)
	sort.Slice(nodes, func(i, j int) bool { return nodes[i].Task < nodes[j].Task })
	var out []*corev1.Secret
	size := maxChunk
	for _, n := range nodes {
		data, err := json.Marshal(n)
		if err != nil {
			return nil, fmt.Errorf("encoding node %s of workflow %s: %w", n.Task, workflow, err)
		}
		if len(data) > maxChunk {
			return nil, fmt.Errorf("node %s of workflow %s has %d bytes; a release, with its values, may have %d", n.Task, workflow, len(data), maxChunk)
		}
		if size+len(data) > maxChunk {
			s := &corev1.Secret{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
				ObjectMeta: metav1.ObjectMeta{
					Name:      workflow + "-plan-" + strconv.Itoa(len(out)),
					Namespace: namespace,
					Labels:    map[string]string{LabelWorkflow: workflow},
				},
				Type:      SecretType,
				Immutable: new(true),
				Data:      map[string][]byte{},
			}
			for k, v := range labels {
				s.Labels[k] = v
			}
			out, size = append(out, s), 0
		}
		out[len(out)-1].Data[n.Task] = data
		size += len(data)
	}
	return out, nil
}

// Nodes unpacks the Secrets of one plan, by task.
func Nodes(secrets []corev1.Secret) (map[string]Node, error) {
	nodes := map[string]Node{}
	for _, s := range secrets {
		for task, data := range s.Data {
			var n Node
			if err := json.Unmarshal(data, &n); err != nil {
				return nil, fmt.Errorf("decoding node %s of plan %s: %w", task, s.Name, err)
			}
			if n.Task != task || n.Release == nil {
				return nil, fmt.Errorf("plan %s: entry %s is not a node of that name", s.Name, task)
			}
			nodes[task] = n
		}
	}
	return nodes, nil
}
