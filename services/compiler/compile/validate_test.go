package compile

import (
	"fmt"
	"strings"
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// dagOf is a workflow of n tasks, each of which waits for all that come before it.
func dagOf(n int) *wfv1.Workflow {
	dag := &wfv1.DAGTemplate{}
	var before []string
	for i := range n {
		name := fmt.Sprintf("t%d", i)
		dag.Tasks = append(dag.Tasks, wfv1.DAGTask{Name: name, Template: "wait", Dependencies: before})
		before = append(before[:len(before):len(before)], name)
	}
	return &wfv1.Workflow{
		ObjectMeta: metav1.ObjectMeta{Name: "w", Namespace: "orkestra"},
		Spec: wfv1.WorkflowSpec{Entrypoint: entrypoint, Templates: []wfv1.Template{
			{Name: entrypoint, DAG: dag}, {Name: entrypoint + "-0", DAG: &wfv1.DAGTemplate{Tasks: []wfv1.DAGTask{{Name: "one", Template: "wait"}}}},
			{Name: "wait", Suspend: &wfv1.SuspendTemplate{}},
		}},
	}
}

// Argo's validator is shown every task once, few of them at a time, and what it is shown it can walk.
func TestShown(t *testing.T) {
	for _, n := range []int{1, shownTasks, shownTasks + 1, 3 * shownTasks} {
		wf := dagOf(n)
		before := wf.DeepCopy()
		if err := validate(wf); err != nil {
			t.Errorf("%d tasks: %v", n, err)
		}
		if diff := cmp.Diff(before, wf); diff != "" {
			t.Errorf("%d tasks: the workflow was changed (-want +got):\n%s", n, diff)
		}
		seen := map[string]int{}
		for _, tmpl := range shown(wf).Spec.Templates {
			if tmpl.DAG == nil {
				continue
			}
			if len(tmpl.DAG.Tasks) > shownTasks {
				t.Errorf("%d tasks: the validator is shown %d of them at a time", n, len(tmpl.DAG.Tasks))
			}
			for _, task := range tmpl.DAG.Tasks {
				if task.Template == "wait" {
					seen[task.Name]++
				}
			}
		}
		for name, times := range seen {
			if times != 1 {
				t.Errorf("%d tasks: task %s is shown %d times", n, name, times)
			}
		}
		if len(seen) != n+1 {
			t.Errorf("%d tasks: %d are shown, want one more", n, len(seen))
		}
	}
}

// What Argo's validator is not shown is found here, and what it is shown is found there.
func TestWhatCannotBeWalked(t *testing.T) {
	for want, change := range map[string]func(tasks []wfv1.DAGTask) []wfv1.DAGTask{
		"cycle t0 -> t99 -> t0":                      func(tasks []wfv1.DAGTask) []wfv1.DAGTask { tasks[0].Dependencies = []string{"t99"}; return tasks },
		`"t3" depends on "none", which is not there`: func(tasks []wfv1.DAGTask) []wfv1.DAGTask { tasks[3].Dependencies = []string{"none"}; return tasks },
		`"t1" is there more than once`:               func(tasks []wfv1.DAGTask) []wfv1.DAGTask { return append(tasks, tasks[1]) },
		`Argo cannot have a task "1"`:                func(tasks []wfv1.DAGTask) []wfv1.DAGTask { tasks[7].Name = "1"; return tasks[:8] },
		"template name 'gone' undefined":             func(tasks []wfv1.DAGTask) []wfv1.DAGTask { tasks[99].Template = "gone"; return tasks },
		"{{tasks.t1.outputs.result}}": func(tasks []wfv1.DAGTask) []wfv1.DAGTask {
			tasks[2].When = "{{tasks.t1.outputs.result}} == 1"
			return tasks
		},
	} {
		wf := dagOf(100)
		wf.Spec.Templates[0].DAG.Tasks = change(wf.Spec.Templates[0].DAG.Tasks)
		if err := validate(wf); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
