package compile

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v3/workflow/templateresolution"
	argo "github.com/argoproj/argo-workflows/v3/workflow/validate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"orkestra.dev/pkg/graph"

	wfapi "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow"
)

// MaxWorkflowBytes is how large a workflow may be as JSON. Argo refuses to go on
// with an object above 1 MiB (packer.maxWorkflowSize), and needs room in it for the
// status of each node, which it compresses.
const MaxWorkflowBytes = 768 << 10

// validating guards Argo's validator, which numbers its placeholders in a variable of
// its package.
var validating sync.Mutex

// validate a workflow by Argo's own rules, and by its size.
func validate(wf *wfv1.Workflow) error {
	data, err := json.Marshal(wf)
	if err != nil {
		return fmt.Errorf("encoding workflow %s: %w", wf.Name, err)
	}
	if len(data) > MaxWorkflowBytes {
		return ungenerable("workflow %s would have %d bytes, and Argo can run up to %d: make several groups of it", wf.Name, len(data), MaxWorkflowBytes)
	}
	for _, t := range wf.Spec.Templates {
		if err := ordered(t); err != nil {
			return ungenerable("the order of workflow %s: %w", wf.Name, err)
		}
	}
	validating.Lock()
	defer validating.Unlock()
	err = argo.ValidateWorkflow(noTemplates{}, &templateresolution.NullClusterWorkflowTemplateGetter{}, shown(wf), nil, argo.ValidateOpts{Submit: true})
	if err != nil {
		return ungenerable("Argo refuses workflow %s: %w", wf.Name, err)
	}
	return nil
}

// shownTasks is how many tasks of one DAG Argo's validator is shown.
const shownTasks = 50

// shown is the workflow as Argo's validator gets it: its large DAGs in parts, and tasks without their dependencies, which
// ordered looks at. The validator finds out, for each task, to what of all the others in its DAG and of all before it the task
// could refer, and for a thousand that wait for each other that is eight seconds. No task of ours refers to another.
func shown(wf *wfv1.Workflow) *wfv1.Workflow {
	out := wf.DeepCopy()
	names := newNames()
	for _, t := range out.Spec.Templates {
		names.name(t.Name, t.Name)
	}
	var parts []wfv1.Template
	for i := range out.Spec.Templates {
		t := &out.Spec.Templates[i]
		if t.DAG == nil {
			continue
		}
		for j := range t.DAG.Tasks {
			t.DAG.Tasks[j].Dependencies = nil
		}
		if len(t.DAG.Tasks) <= shownTasks {
			continue
		}
		var tasks []wfv1.DAGTask
		for some := range slices.Chunk(t.DAG.Tasks, shownTasks) {
			part := *t.DeepCopy()
			part.Name = names.name(fmt.Sprintf("part/%d", len(parts)), fmt.Sprintf("%s-%d", t.Name, len(tasks)))
			part.DAG.Tasks = some
			parts = append(parts, part)
			tasks = append(tasks, wfv1.DAGTask{Name: part.Name, Template: part.Name})
		}
		t.DAG.Tasks = tasks
	}
	out.Spec.Templates = append(out.Spec.Templates, parts...)
	return out
}

// ordered is an error where the tasks of a DAG cannot be walked by Argo: two of one name, a dependency that is not there or
// not to be had, or a cycle.
func ordered(t wfv1.Template) error {
	if t.DAG == nil {
		return nil
	}
	nodes := make([]graph.Node, len(t.DAG.Tasks))
	for i, task := range t.DAG.Tasks {
		nodes[i] = graph.Node{Name: task.Name, Dependencies: task.Dependencies}
		if !plain(task.Name) {
			return fmt.Errorf("template %s: Argo cannot have a task %q", t.Name, task.Name)
		}
	}
	if _, err := graph.New(nodes); err != nil {
		return fmt.Errorf("template %s: %w", t.Name, err)
	}
	return nil
}

// noTemplates is a namespace without WorkflowTemplates: a compiled workflow has all
// its templates in itself.
type noTemplates struct{}

// Get finds nothing.
func (noTemplates) Get(name string) (*wfv1.WorkflowTemplate, error) {
	return nil, apierrors.NewNotFound(wfv1.Resource(wfapi.WorkflowTemplatePlural), name)
}
