package compile

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
)

// Names of the steps that are not the user's.
const (
	prepareStep = "prepare"
	readyStep   = "ready"
	cleanStep   = "clean"
)

// release is a HelmRelease, and what its steps need to know.
type release struct {
	object *helmv2.HelmRelease
	// values that the object refers to; nil where it refers to none.
	values *corev1.Secret
	// app that the release is of, as the spec has it; nil where only the release is
	// known, which is to go.
	app *v1alpha1.Application
	// mode in which helmrelease steps are run.
	mode v1alpha1.ExecutorMode
}

// step is one step of a release in one phase.
type step struct {
	ExecutorGraph
	// kind of the step's node.
	kind plan.Kind
	// pod: the step is a pod of the workflow.
	pod bool
	// executor of the spec; nil of a step that is not the user's.
	executor *v1alpha1.Executor
}

// leaf is a node of the workflow: a step of a release, and its path in Argo without
// the workflow's name.
type leaf struct {
	release *release
	task    string
	step    step
	path    string
	action  plan.Action
}

// modeOf an application: its own, or else that of its group.
func modeOf(group *v1alpha1.ApplicationGroup, app *v1alpha1.Application) v1alpha1.ExecutorMode {
	return cmp.Or(app.Spec.Executor, group.Spec.Executor, v1alpha1.ExecutorModeEvent)
}

// inPod says whether an executor of that type is a pod of the workflow.
func inPod(kind v1alpha1.ExecutorType, mode v1alpha1.ExecutorMode) bool {
	switch kind {
	case v1alpha1.ExecutorCustom, v1alpha1.ExecutorKeptn:
		return true
	case v1alpha1.ExecutorJob, v1alpha1.ExecutorWait:
		return false
	default:
		return mode == v1alpha1.ExecutorModePod
	}
}

// hasPods says whether a step of the application is a pod of the workflow.
func hasPods(app *v1alpha1.Application, mode v1alpha1.ExecutorMode) bool {
	return slices.ContainsFunc(executorGraphs(app.Spec.Workflow), func(e ExecutorGraph) bool { return inPod(e.Type, mode) })
}

// steps are the executors of a release, and, where pods are among them, what those
// cannot do themselves: to make what they need, to look at the release's readyExpr, and
// to remove what Helm leaves.
func (r *release) steps(executors []ExecutorGraph, action plan.Action) []step {
	var out []step
	all := make([]string, len(executors))
	taken := map[string]bool{}
	pods, applied, ours := false, false, false
	for i, e := range executors {
		s := step{ExecutorGraph: e, kind: plan.Release, pod: inPod(e.Type, r.mode), executor: r.executor(e.Name)}
		switch e.Type {
		case v1alpha1.ExecutorJob:
			s.kind = plan.Job
		case v1alpha1.ExecutorWait:
			s.kind = plan.Wait
		case v1alpha1.ExecutorHelmRelease, v1alpha1.ExecutorCustom, v1alpha1.ExecutorKeptn:
			pods = pods || s.pod
			applied = applied || !s.pod
			ours = ours || e.Type == v1alpha1.ExecutorHelmRelease
		}
		all[i], taken[v1alpha1.DNSName(e.Name)] = e.Name, true
		out = append(out, s)
	}
	own := func(name string, kind plan.Kind, dependencies ...string) step {
		for taken[name] {
			name = "orkestra-" + name
		}
		return step{ExecutorGraph: ExecutorGraph{Name: name, Dependencies: set(dependencies)}, kind: kind}
	}
	switch {
	case !pods:
		return out
	case action == plan.Delete && !ours && r.object.Spec.StorageNamespace != "":
		// An image of others knows nothing of the namespace with Helm's records.
		return append(out, own(cleanStep, plan.Prepare, all...))
	case action == plan.Delete:
		return out
	}
	prepare := own(prepareStep, plan.Prepare)
	for i := range out {
		if len(out[i].Dependencies) == 0 {
			out[i].Dependencies = []string{prepare.Name}
		}
	}
	if r.app.Spec.Release.ReadyExpr != "" && !applied {
		out = append(out, own(readyStep, plan.Wait, all...))
	}
	return append(out, prepare)
}

// executor of that name in the spec; nil where the spec has none.
func (r *release) executor(name string) *v1alpha1.Executor {
	if r.app == nil {
		return nil
	}
	for i := range r.app.Spec.Workflow {
		if e := &r.app.Spec.Workflow[i]; e.Name == name {
			return e
		}
	}
	return nil
}

// node of the plan for a leaf.
func (c *compiler) node(l leaf) (plan.Node, error) {
	n := plan.Node{Task: l.path, Action: l.action, Release: l.release.object.DeepCopy(), Kind: l.step.kind}
	if n.Kind == plan.Release {
		n.Kind = "" // as it was before there were other kinds
	}
	if l.action == plan.Delete {
		return n, nil
	}
	spec := l.release.app.Spec.Release
	switch l.step.kind {
	case plan.Job:
		job, err := c.job(l)
		if err != nil {
			return plan.Node{}, err
		}
		n.Job, n.Timeout = job, timeoutOf(l)
	case plan.Wait:
		n.Wait, n.Timeout = waitFor(l), timeoutOf(l)
	case plan.Prepare:
		n.Values = l.release.values.DeepCopy()
	case plan.Release:
		n.ReadyExpr = spec.ReadyExpr
		if !l.step.pod {
			n.Values = l.release.values.DeepCopy()
		}
	}
	return n, nil
}

// timeoutOf a step of type job or wait.
func timeoutOf(l leaf) metav1.Duration {
	if e := l.step.executor; e != nil && e.Timeout != nil && e.Timeout.Duration > 0 {
		return *e.Timeout
	}
	return metav1.Duration{Duration: l.release.app.Spec.Release.EffectiveTimeout()}
}

// waitFor is what a wait step waits for: the step of nobody waits for its release.
func waitFor(l leaf) *v1alpha1.WaitFor {
	hr := l.release.object
	if l.step.executor == nil {
		return &v1alpha1.WaitFor{
			APIVersion: hr.APIVersion, Kind: hr.Kind, Namespace: hr.Namespace, Name: hr.Name,
			Expr: l.release.app.Spec.Release.ReadyExpr,
		}
	}
	wait := *l.step.executor.Wait
	wait.Namespace = cmp.Or(wait.Namespace, hr.Namespace)
	return &wait
}

// Jobs are the names of the Jobs that the steps of a group run, with the namespaces.
func Jobs(in Input) ([]types.NamespacedName, error) {
	graph, err := Graph(in.Group, in.Staged)
	if err != nil {
		return nil, err
	}
	c, err := newCompiler(in.Rollout, in.Options, events.WorkflowForward, in.Attempt)
	if err != nil {
		return nil, err
	}
	objects, err := c.releases(in, graph)
	if err != nil {
		return nil, err
	}
	var out []types.NamespacedName
	for _, app := range graph.Applications {
		for _, r := range app.Releases {
			about := objects[app.Name][r.Task]
			for _, s := range about.steps(r.Executors, plan.Install) {
				if s.kind != plan.Job {
					continue
				}
				job, err := c.job(leaf{release: about, task: r.Task, step: s, action: plan.Install})
				if err != nil {
					return nil, err
				}
				out = append(out, types.NamespacedName{Namespace: job.Namespace, Name: job.Name})
			}
		}
	}
	return out, nil
}

// job that a step runs. Its name says what it is and for what: a Job of that name
// that has completed need not run again.
func (c *compiler) job(l leaf) (*batchv1.Job, error) {
	hr := l.release.object
	var spec batchv1.JobSpec
	if err := json.Unmarshal(l.step.executor.Job.Raw, &spec); err != nil {
		return nil, fmt.Errorf("decoding the Job of step %s: %w", l.path, err)
	}
	spec.Template.Spec.RestartPolicy = cmp.Or(spec.Template.Spec.RestartPolicy, corev1.RestartPolicyNever)
	sum, err := digest(spec, hr.Spec)
	if err != nil {
		return nil, fmt.Errorf("naming the Job of step %s: %w", l.path, err)
	}
	tail := "-" + sum[:8]
	return &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{
			Name:      v1alpha1.Shorten(hr.Name+"-"+v1alpha1.DNSName(l.step.Name), v1alpha1.MaxLabel-len(tail)) + tail,
			Namespace: hr.Namespace,
			Labels: owned(c.rollout.Group, map[string]string{
				v1alpha1.LabelApplication: hr.Labels[v1alpha1.LabelApplication],
			}),
			Annotations: map[string]string{
				v1alpha1.AnnotationGroupUID: c.rollout.UID,
				v1alpha1.AnnotationRollout:  c.identity,
				v1alpha1.AnnotationWorkflow: c.workflow,
				v1alpha1.AnnotationNode:     l.path,
			},
			OwnerReferences: []metav1.OwnerReference{OwnerReference(c.rollout)},
		},
		Spec: spec,
	}, nil
}
