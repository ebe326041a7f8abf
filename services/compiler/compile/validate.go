package compile

import (
	"encoding/json"
	"fmt"
	"sync"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v3/workflow/templateresolution"
	argo "github.com/argoproj/argo-workflows/v3/workflow/validate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

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
	validating.Lock()
	defer validating.Unlock()
	// Argo's validator sorts the tasks that it is given: it gets a copy.
	err = argo.ValidateWorkflow(noTemplates{}, &templateresolution.NullClusterWorkflowTemplateGetter{}, wf.DeepCopy(), nil, argo.ValidateOpts{Submit: true})
	if err != nil {
		return ungenerable("Argo refuses workflow %s: %w", wf.Name, err)
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
