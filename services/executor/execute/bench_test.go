package execute_test

import (
	"fmt"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/executor/execute"
)

// BenchmarkNext looks at levels of ten applications, of one release each, in the middle of their
// rollout, when Argo has heard of a third of them.
func BenchmarkNext(b *testing.B) {
	for _, releases := range []int{100, 1000} {
		s := newWorld(ladder(releases), limit(10), walked)
		b.Run(fmt.Sprintf("%d", releases), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a, err := execute.Next(s)
				if err != nil || len(a.Apply) != 10 {
					b.Fatalf("%d begun, %v", len(a.Apply), err)
				}
			}
		})
	}
}

func ladder(releases int) func(*world) {
	name := func(level, i int) string { return fmt.Sprintf("r%02d%d", level, i) }
	return func(w *world) {
		levels := releases / 10
		entry := &wfv1.DAGTemplate{}
		w.Workflow.Spec.Entrypoint = "entry"
		w.Workflow.Spec.Templates = []wfv1.Template{{Name: "entry", DAG: entry}, {Name: "wait", Suspend: &wfv1.SuspendTemplate{}}}
		for level := range levels {
			for i := range 10 {
				app := name(level, i)
				t := wfv1.DAGTask{Name: app, Template: app}
				if level > 0 {
					for j := range 10 {
						t.Dependencies = append(t.Dependencies, name(level-1, j))
					}
				}
				entry.Tasks = append(entry.Tasks, t)
				w.Workflow.Spec.Templates = append(w.Workflow.Spec.Templates, wfv1.Template{Name: app, DAG: &wfv1.DAGTemplate{
					Tasks: []wfv1.DAGTask{{Name: app, Template: "wait"}},
				}})
				task := app + "." + app
				w.Plan[task] = plan.Node{Task: task, Action: plan.Install, Release: wanted(app)}
				if level < levels/2 {
					there(app, ours(time.Minute), at(task))(w)
				}
				if level < levels/3 {
					dag := wfv1.NodeStatus{ID: "id-" + app, Name: workflow + "." + app, Type: wfv1.NodeTypeDAG, Phase: wfv1.NodeSucceeded}
					leaf := wfv1.NodeStatus{ID: "id-" + task, Name: workflow + "." + task, Type: wfv1.NodeTypeSuspend, Phase: wfv1.NodeSucceeded}
					w.Workflow.Status.Nodes[dag.ID], w.Workflow.Status.Nodes[leaf.ID] = dag, leaf
				}
			}
		}
		w.Early = true
	}
}
