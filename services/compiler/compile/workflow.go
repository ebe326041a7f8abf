package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
)

// Defaults of Options.
const (
	DefaultNamespace   = "orkestra"
	DefaultParallelism = 10
	// DefaultExecutorImage is a name that the nodes of a cluster can be given the image
	// under; an installation that has a registry says where it is.
	DefaultExecutorImage          = "orkestra-executor:latest"
	DefaultExecutorServiceAccount = "orkestra-executor"
)

// How long Argo keeps a finished workflow. The group's status remembers the outcome,
// so a workflow is kept only for people to look at, longer where it failed.
const (
	keepSucceeded = 24 * 60 * 60
	keepFailed    = 7 * 24 * 60 * 60
)

// entrypoint is the name of the template that is the DAG of applications.
const entrypoint = "entry"

// Options of an installation of Orkestra.
type Options struct {
	// Namespace of Workflows, plans and HelmCharts. The default is DefaultNamespace.
	Namespace string
	// Parallelism is how many releases of one workflow may be in work at a time. The
	// default is DefaultParallelism.
	Parallelism int64
	// ExecutorImage is what runs the steps of groups and applications with executor:
	// pod. The default is DefaultExecutorImage.
	ExecutorImage string
	// ExecutorServiceAccount is the service account, in Namespace, of all pods of
	// workflows. The default is DefaultExecutorServiceAccount.
	ExecutorServiceAccount string
}

func (o Options) withDefaults() Options {
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	if o.Parallelism <= 0 {
		o.Parallelism = DefaultParallelism
	}
	o.ExecutorImage = cmp.Or(o.ExecutorImage, DefaultExecutorImage)
	o.ExecutorServiceAccount = cmp.Or(o.ExecutorServiceAccount, DefaultExecutorServiceAccount)
	return o
}

// Plan is a workflow, and what is to be done at each of its nodes.
type Plan struct {
	// Workflow to submit; nil where there is no node.
	Workflow *wfv1.Workflow
	// Nodes by task, sorted: those that the executor service runs, and those that are
	// pods of the workflow.
	Nodes []plan.Node
	// Graph that the workflow walks, in the direction in which it walks it.
	Graph *GroupGraph
	// Standing is how many releases of the group have no node, since they are as wanted.
	Standing int
}

// Secrets that carry the nodes to the executors. They have no owner yet: they are
// written before the workflow is, whose UID is not known until then.
func (p *Plan) Secrets() ([]*corev1.Secret, error) {
	labels := map[string]string{}
	for _, k := range []string{v1alpha1.LabelHeritage, v1alpha1.LabelOwner} {
		labels[k] = p.Workflow.Labels[k]
	}
	secrets, err := plan.Secrets(p.Workflow.Name, p.Workflow.Namespace, labels, p.Nodes)
	if err != nil {
		return nil, ungenerable("packing the plan: %w", err)
	}
	return secrets, nil
}

// WorkflowName is the name of a rollout's workflow: <group>-<type>-g<generation>-<hash>,
// cut to what a label's value may have. Attempt is 0 for the first; that of a forward
// workflow that is tried again ends in -r<attempt>, that of another in -<attempt>.
func WorkflowName(rollout events.Rollout, workflowType events.WorkflowType, attempt int) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{
		rollout.UID, strconv.FormatInt(rollout.Generation, 10), rollout.RequestedAt, string(workflowType),
	}, "\x00")))
	tail := fmt.Sprintf("-%s-g%d-%s", workflowType, rollout.Generation, hex.EncodeToString(sum[:])[:8])
	switch {
	case attempt > 0 && workflowType == events.WorkflowForward:
		tail += "-r" + strconv.Itoa(attempt)
	case attempt > 0:
		tail += "-" + strconv.Itoa(attempt)
	}
	return v1alpha1.Shorten(v1alpha1.DNSName(rollout.Group), v1alpha1.MaxLabel-len(tail)) + tail
}

// compiler is one compilation: what all its objects have in common.
type compiler struct {
	rollout  events.Rollout
	options  Options
	kind     events.WorkflowType
	workflow string
	// identity is the rollout as JSON.
	identity string
}

func newCompiler(rollout events.Rollout, options Options, kind events.WorkflowType, attempt int) (*compiler, error) {
	identity, err := json.Marshal(rollout)
	if err != nil {
		return nil, fmt.Errorf("encoding rollout %s: %w", rollout.ID(), err)
	}
	return &compiler{
		rollout:  rollout,
		options:  options.withDefaults(),
		kind:     kind,
		workflow: WorkflowName(rollout, kind, attempt),
		identity: string(identity),
	}, nil
}

// releases is what there is to be done for each task, by application and task.
type releases map[string]map[string]*release

// workflowOf is the workflow of these templates.
func (c *compiler) workflowOf(templates []wfv1.Template) *wfv1.Workflow {
	return &wfv1.Workflow{
		TypeMeta: metav1.TypeMeta{APIVersion: wfv1.SchemeGroupVersion.String(), Kind: "Workflow"},
		ObjectMeta: metav1.ObjectMeta{
			Name:      c.workflow,
			Namespace: c.options.Namespace,
			Labels: owned(c.rollout.Group, map[string]string{
				v1alpha1.LabelWorkflowType: string(c.kind),
				v1alpha1.LabelGeneration:   strconv.FormatInt(c.rollout.Generation, 10),
			}),
			Annotations: map[string]string{
				v1alpha1.AnnotationRollout:  c.identity,
				v1alpha1.AnnotationGroupUID: c.rollout.UID,
			},
			OwnerReferences: []metav1.OwnerReference{OwnerReference(c.rollout)},
		},
		Spec: wfv1.WorkflowSpec{
			Entrypoint:  entrypoint,
			Templates:   templates,
			Parallelism: new(c.options.Parallelism),
			TTLStrategy: &wfv1.TTLStrategy{
				SecondsAfterSuccess: new(int32(keepSucceeded)),
				SecondsAfterFailure: new(int32(keepFailed)),
			},
			PodGC: &wfv1.PodGC{Strategy: wfv1.PodGCOnPodCompletion},
		},
	}
}

// OwnerReference makes a group the owner of what is made for its rollout. It does
// not block the owner's deletion: the finalizer does, and in order.
func OwnerReference(rollout events.Rollout) metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion:         v1alpha1.GroupVersion.String(),
		Kind:               v1alpha1.Kind,
		Name:               rollout.Group,
		UID:                types.UID(rollout.UID),
		Controller:         new(true),
		BlockOwnerDeletion: new(false),
	}
}
