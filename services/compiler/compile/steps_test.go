package compile_test

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/compiler/compile"
)

// gated is an application whose release has a migration before it, and behind it a
// smoke test and a wait.
func gated() v1alpha1.Application {
	return with(application("web"), func(s *v1alpha1.ApplicationSpec) {
		migrate := step(v1alpha1.ExecutorJob, "migrate")
		migrate.Job = raw(`{"backoffLimit":2,"template":{"spec":{"containers":[{"name":"m","image":"registry.example.com/migrate:1"}]}}}`)
		smoke := step(v1alpha1.ExecutorJob, "smoke", "helmrelease")
		smoke.Job = raw(`{"template":{"spec":{"restartPolicy":"OnFailure","containers":[{"name":"s","image":"registry.example.com/smoke:1"}]}}}`)
		smoke.Timeout = &metav1.Duration{Duration: time.Minute}
		up := step(v1alpha1.ExecutorWait, "up", "helmrelease")
		up.Wait = &v1alpha1.WaitFor{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", Expr: "self.status.readyReplicas > 0"}
		s.Workflow = []v1alpha1.Executor{migrate, step("", "helmrelease", "migrate"), smoke, up}
	})
}

// inPods are three applications with pods: one by mode, and one of each type.
func inPods() *v1alpha1.ApplicationGroup {
	mode := with(subcharts(application("mode"), dag("sub")), func(s *v1alpha1.ApplicationSpec) {
		s.Executor = v1alpha1.ExecutorModePod
		s.Release.Values = raw(`{"password":"hunter2"}`)
		s.Release.Timeout = &metav1.Duration{Duration: 10 * time.Minute}
		s.Release.ReadyExpr = "self.status.history[0].version > 0"
	})
	custom := with(application("custom"), func(s *v1alpha1.ApplicationSpec) {
		one := step(v1alpha1.ExecutorCustom, "one")
		one.Params = raw(`{"data":{"key":"value"},"volumes":[{"name":"certs","secret":{"secretName":"certs"}}]}`)
		one.Image = &corev1.Container{
			Name: "mine", Image: "registry.example.com/one:1", Command: []string{"/one"}, Args: []string{"--mine"},
			Env:          []corev1.EnvVar{{Name: "KEY", Value: "value"}},
			VolumeMounts: []corev1.VolumeMount{{Name: "certs", MountPath: "/certs"}},
		}
		two := step(v1alpha1.ExecutorCustom, "prepare", "one")
		two.Image = &corev1.Container{
			Image: "registry.example.com/two:2", SecurityContext: &corev1.SecurityContext{RunAsUser: new(int64(7))},
		}
		s.Workflow = []v1alpha1.Executor{one, two}
	})
	keptn := with(application("keptn", "mode"), func(s *v1alpha1.ApplicationSpec) {
		k := step(v1alpha1.ExecutorKeptn, "evaluate", "install")
		k.Params = raw(`{"configMapRef":{"name":"keptn-config","namespace":"keptn"}}`)
		s.Workflow = []v1alpha1.Executor{step("", "install"), k}
	})
	g := group(mode, custom, keptn)
	g.Name = "pods"
	return g
}

func nodeOf(t *testing.T, p *compile.Plan, task string) plan.Node {
	t.Helper()
	i := slices.IndexFunc(p.Nodes, func(n plan.Node) bool { return n.Task == task })
	if i < 0 {
		t.Fatalf("there is no node %s in %v", task, tasks(p))
	}
	return p.Nodes[i]
}

func TestJobsAndWaits(t *testing.T) {
	g := group(gated(), application("after", "web"))
	p := forward(t, g, stage(g, nil))
	got, leaves := walk(t, p.Workflow)
	want := edges{
		"":            {"web": {}, "after": {"web"}},
		"after":       {"after-after": {}},
		"web":         {"web-web": {}},
		"web.web-web": {"migrate": {}, "helmrelease": {"migrate"}, "smoke": {"helmrelease"}, "up": {"helmrelease"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a job and a wait are steps like others (-want +got):\n%s", diff)
	}
	namesAgree(t, leaves, p)
	golden(t, "steps-forward.yaml", p.Workflow)
	golden(t, "steps-forward-nodes.yaml", p.Nodes)

	migrate, smoke, up := nodeOf(t, p, "web.web-web.migrate"), nodeOf(t, p, "web.web-web.smoke"), nodeOf(t, p, "web.web-web.up")
	promises := map[string]bool{
		"a job says what it is":                       migrate.Kind == plan.Job && migrate.Release.Name == "web" && migrate.Job.Namespace == "target",
		"its restart policy is one that ends":         migrate.Job.Spec.Template.Spec.RestartPolicy == corev1.RestartPolicyNever,
		"or the user's":                               smoke.Job.Spec.Template.Spec.RestartPolicy == corev1.RestartPolicyOnFailure,
		"the backoff limit is the user's":             *migrate.Job.Spec.BackoffLimit == 2 && smoke.Job.Spec.BackoffLimit == nil,
		"its timeout is the step's, or the release's": smoke.Timeout.Duration == time.Minute && migrate.Timeout.Duration == 5*time.Minute,
		"the group owns it":                           migrate.Job.OwnerReferences[0].UID == "6c1f5c4e-7b1e-4a54-8a4d-0e5f1d2c3b4a",
		"a wait is in the target namespace":           up.Kind == plan.Wait && up.Wait.Namespace == "target" && up.Wait.Expr != "",
		"only releases are counted":                   p.Releases() == 2,
	}
	for promise, kept := range promises {
		if !kept {
			t.Errorf("%s: it is not so", promise)
		}
	}
	if diff := cmp.Diff(edges{"": {"web": {"after"}, "after": {}}, "after": {"after-after": {}}, "web": {"web-web": {}}}, edgesOf(t, reverse(t, g, inventory(p)))); diff != "" {
		t.Errorf("a reverse has neither (-want +got):\n%s", diff)
	}
}

// A Job is run again when it, or what the release installs, has changed.
func TestJobNames(t *testing.T) {
	name := func(change func(*v1alpha1.ApplicationSpec), chart string) string {
		g := group(with(gated(), change))
		staged := stage(g, nil)
		staged[0].Pieces[0].HelmChart += chart
		return nodeOf(t, forward(t, g, staged), "web.web-web.migrate").Job.Name
	}
	same := func(*v1alpha1.ApplicationSpec) {}
	first := name(same, "")
	if again := name(same, ""); again != first || !strings.HasPrefix(first, "web-migrate-") {
		t.Errorf("the same is the same: %s, %s", first, again)
	}
	for what, other := range map[string]string{
		"the chart":  name(same, "-newer"),
		"the values": name(func(s *v1alpha1.ApplicationSpec) { s.Release.Values = raw(`{"a":1}`) }, ""),
		"the Job itself": name(func(s *v1alpha1.ApplicationSpec) {
			s.Workflow[0].Job.Raw = []byte(strings.Replace(string(s.Workflow[0].Job.Raw), "migrate:1", "migrate:2", 1))
		}, ""),
	} {
		if other == first {
			t.Errorf("%s has changed, and the Job is not run again", what)
		}
	}
	long := group(with(gated(), func(s *v1alpha1.ApplicationSpec) { s.Workflow[2].Name = strings.Repeat("x", 63) }))
	if n := nodeOf(t, forward(t, long, stage(long, nil)), "web.web-web."+strings.Repeat("x", 63)).Job.Name; len(n) != 63 {
		t.Errorf("a name is at most a label's value: %s", n)
	}
}

func TestPods(t *testing.T) {
	g := inPods()
	p := forward(t, g, stage(g, nil))
	got, leaves := walk(t, p.Workflow)
	pods := map[string][]string{"helmrelease": {"prepare"}, "prepare": {}, "ready": {"helmrelease"}}
	want := edges{
		"":     {"mode": {}, "custom": {}, "keptn": {"mode"}},
		"mode": {"mode-mode": {"mode-sub"}, "mode-sub": {}}, "mode.mode-mode": pods, "mode.mode-sub": pods,
		"custom": {"custom-custom": {}}, "custom.custom-custom": {"one": {"orkestra-prepare"}, "prepare": {"one"}, "orkestra-prepare": {}},
		"keptn": {"keptn-keptn": {}}, "keptn.keptn-keptn": {"install": {"prepare"}, "evaluate": {"install"}, "prepare": {}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what pods need is made before them, and what they cannot look at is looked at behind them (-want +got):\n%s", diff)
	}
	namesAgree(t, leaves, p)
	golden(t, "pods-forward.yaml", p.Workflow)
	golden(t, "pods-forward-nodes.yaml", p.Nodes)

	prepare, ready := nodeOf(t, p, "mode.mode-mode.prepare"), nodeOf(t, p, "mode.mode-mode.ready")
	if prepare.Kind != plan.Prepare || !strings.Contains(string(prepare.Values.Data["values.yaml"]), "hunter2") {
		t.Errorf("the values are made by the node before: %+v", prepare)
	}
	if ready.Kind != plan.Wait || ready.Wait.Kind != helmv2.HelmReleaseKind || ready.Wait.Name != "mode" || ready.Wait.Expr == "" {
		t.Errorf("readyExpr is waited for: %+v", ready.Wait)
	}
	workflow, err := json.Marshal(p.Workflow)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(workflow), "hunter2") || strings.Contains(string(workflow), base64.StdEncoding.EncodeToString([]byte("hunter2"))) {
		t.Error("a value is in the workflow")
	}

	back := reverse(t, g, inventory(p))
	wantReverse := edges{
		"":     {"mode": {"keptn"}, "custom": {}, "keptn": {}},
		"mode": {"mode-mode": {}, "mode-sub": {"mode-mode"}}, "custom": {"custom-custom": {}}, "keptn": {"keptn-keptn": {}},
		"custom.custom-custom": {"one": {"prepare"}, "prepare": {}}, "keptn.keptn-keptn": {"install": {"evaluate"}, "evaluate": {}},
	}
	if diff := cmp.Diff(wantReverse, edgesOf(t, back)); diff != "" {
		t.Errorf("reverse turns the steps round (-want +got):\n%s", diff)
	}
	namesAgree(t, leavesOf(t, back), back)
	golden(t, "pods-reverse.yaml", back.Workflow)
	for task, args := range argsByTask(t, back.Workflow) {
		if !slices.Contains(args, "delete") || slices.Contains(args, "install") {
			t.Errorf("%s deletes: %v", task, args)
		}
	}
}

// The arguments are those that images for the original know.
func TestPodArguments(t *testing.T) {
	g := inPods()
	p := forward(t, g, stage(g, nil))
	args := argsByTask(t, p.Workflow)
	spec := func(task string) string {
		i := slices.Index(args[task], "--spec")
		if i < 0 {
			t.Fatalf("%s has no --spec: %v", task, args[task])
		}
		return args[task][i+1]
	}
	for task, want := range map[string][]string{
		"mode.mode-sub.helmrelease":    {"--spec", spec("mode.mode-sub.helmrelease"), "--action", "install", "--timeout", "10m0s", "--interval", "1s"},
		"custom.custom-custom.one":     {"--mine", "--spec", spec("custom.custom-custom.one"), "--action", "install", "--data", "eyJrZXkiOiJ2YWx1ZSJ9", "--timeout", "5m0s", "--interval", "1s"},
		"custom.custom-custom.prepare": {"--spec", spec("custom.custom-custom.prepare"), "--action", "install", "--data", "", "--timeout", "5m0s", "--interval", "1s"},
		"keptn.keptn-keptn.evaluate": {"--spec", spec("keptn.keptn-keptn.evaluate"), "--action", "install", "--configmap-name", "keptn-config", "--configmap-namespace", "keptn",
			"--timeout", "5m0s", "--interval", "1s"},
	} {
		if diff := cmp.Diff(want, args[task]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", task, diff)
		}
	}
	data, err := base64.StdEncoding.DecodeString(spec("mode.mode-sub.helmrelease"))
	if err != nil {
		t.Fatal(err)
	}
	var hr helmv2.HelmRelease
	if err := json.Unmarshal(data, &hr); err != nil {
		t.Fatal(err)
	}
	if hr.Name != "mode-sub" || hr.Spec.Values != nil || len(hr.Spec.ValuesFrom) != 1 ||
		hr.Annotations[v1alpha1.AnnotationNode] != "mode.mode-sub.helmrelease" || hr.Annotations[v1alpha1.AnnotationWorkflow] != p.Workflow.Name ||
		!strings.Contains(hr.Annotations[v1alpha1.AnnotationRollout], `"generation":3`) || hr.Labels[v1alpha1.LabelGeneration] != "3" {
		t.Errorf("the HelmRelease has the marks of the workflow, and its values by reference: %s", data)
	}
}

// The images of others delete a release, and leave the namespace with Helm's records.
func TestWhatPodsLeave(t *testing.T) {
	g := group(subcharts(inPods().Spec.Applications[1], dag("sub")))
	back := reverse(t, g, inventory(forward(t, g, stage(g, nil))))
	if diff := cmp.Diff(map[string][]string{"one": {"prepare"}, "prepare": {}, "clean": {"one", "prepare"}}, edgesOf(t, back)["custom.custom-sub"]); diff != "" {
		t.Errorf("it is cleaned up behind them (-want +got):\n%s", diff)
	}
	if clean := nodeOf(t, back, "custom.custom-sub.clean"); clean.Kind != plan.Prepare || clean.Action != plan.Delete || clean.Release.Spec.StorageNamespace == "" {
		t.Errorf("by the executor service: %+v", clean)
	}
}

func leavesOf(t *testing.T, p *compile.Plan) []string {
	t.Helper()
	_, out := walk(t, p.Workflow)
	return out
}

// A pod's deadline is one that Kubernetes takes, however long a release may.
func TestPodDeadline(t *testing.T) {
	for timeout, want := range map[time.Duration]int32{10 * time.Minute: 720, 1000000 * time.Hour: 1<<31 - 1} {
		app := with(application("a"), func(s *v1alpha1.ApplicationSpec) {
			s.Executor, s.Release.Timeout = v1alpha1.ExecutorModePod, &metav1.Duration{Duration: timeout}
		})
		p := forward(t, group(app), stage(group(app), nil))
		i := slices.IndexFunc(p.Workflow.Spec.Templates, func(tmpl wfv1.Template) bool { return tmpl.Container != nil })
		if got := p.Workflow.Spec.Templates[i].ActiveDeadlineSeconds.IntVal; got != want {
			t.Errorf("with a timeout of %s it is %d s, want %d s", timeout, got, want)
		}
	}
}

func edgesOf(t *testing.T, p *compile.Plan) edges {
	t.Helper()
	out, _ := walk(t, p.Workflow)
	return out
}

// argsByTask are the arguments of the pods of a workflow, by path.
func argsByTask(t *testing.T, wf *wfv1.Workflow) map[string][]string {
	t.Helper()
	templates := map[string]wfv1.Template{}
	for _, tmpl := range wf.Spec.Templates {
		templates[tmpl.Name] = tmpl
	}
	out := map[string][]string{}
	var visit func(path, template string)
	visit = func(path, template string) {
		tmpl := templates[template]
		if tmpl.Container != nil {
			out[path] = tmpl.Container.Args
		}
		if tmpl.DAG != nil {
			for _, task := range tmpl.DAG.Tasks {
				visit(strings.TrimPrefix(path+"."+task.Name, "."), task.Template)
			}
		}
	}
	visit("", wf.Spec.Entrypoint)
	if len(out) == 0 {
		t.Fatal("there are no pods")
	}
	return out
}
