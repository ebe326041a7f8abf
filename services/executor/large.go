package executor

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"orkestra.dev/pkg/service/stored"
)

// large says whether a workflow has many tasks.
func large(wf *wfv1.Workflow) bool {
	tasks := 0
	for _, t := range wf.Spec.Templates {
		if t.DAG != nil {
			tasks += len(t.DAG.Tasks)
		}
	}
	return tasks >= stored.Many
}
