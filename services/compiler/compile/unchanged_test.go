package compile_test

import (
	"encoding/json"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/compiler/compile"
)

// rolledOut is what a cluster has when a plan has been carried out: the releases as
// the API server keeps them, ready, and the Jobs, completed.
func rolledOut(t testing.TB, p *compile.Plan) (live []helmv2.HelmRelease, jobs []batchv1.Job) {
	t.Helper()
	for _, hr := range inventory(p) {
		var kept helmv2.HelmRelease
		if err := json.Unmarshal([]byte(text(t, hr)), &kept); err != nil {
			t.Fatal(err)
		}
		kept.Generation = 4
		kept.Labels[v1alpha1.LabelGeneration] = "2"
		kept.Annotations[v1alpha1.AnnotationWorkflow] = "an older one"
		kept.Annotations[v1alpha1.AnnotationNode] = "node"
		if kept.Spec.Values != nil {
			kept.Spec.Values.Raw = append([]byte("  "), kept.Spec.Values.Raw...)
		}
		if u := kept.Spec.Uninstall; u != nil {
			u.DeletionPropagation = new("background")
		}
		kept.Status.ObservedGeneration = 4
		kept.Status.Conditions = []metav1.Condition{{Type: meta.ReadyCondition, Status: metav1.ConditionTrue, ObservedGeneration: 4}}
		live = append(live, kept)
	}
	for _, n := range p.Nodes {
		if n.Kind == plan.Job {
			job := n.Job.DeepCopy()
			job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
			jobs = append(jobs, *job)
		}
	}
	return live, jobs
}

func TestUnchanged(t *testing.T) {
	base := func() *v1alpha1.ApplicationGroup {
		return group(with(subcharts(application("a"), dag("x")), func(s *v1alpha1.ApplicationSpec) {
			s.Release.Values = raw(`{"b":1,"a":{"c":null}}`)
			s.Release.Uninstall = &helmv2.Uninstall{}
		}), application("b", "a"))
	}
	type world struct {
		group *v1alpha1.ApplicationGroup
		live  []helmv2.HelmRelease
		jobs  []batchv1.Job
		last  *compile.Revision
	}
	cases := map[string]struct {
		reason string
		before *v1alpha1.ApplicationGroup // as it was rolled out; base where nil
		change func(*world)
		want   bool
	}{
		"Same":        {reason: "what is as it should be", change: func(*world) {}, want: true},
		"Values":      {reason: "a value", change: func(w *world) { w.group.Spec.Applications[0].Spec.Release.Values = raw(`{"b":2}`) }},
		"Option":      {reason: "an option", change: func(w *world) { w.group.Spec.Applications[1].Spec.Release.MaxHistory = new(9) }},
		"Order":       {reason: "an order, by which a reverse goes", change: func(w *world) { w.group.Spec.Applications[1].Dependencies = nil }},
		"Missing":     {reason: "a release that is gone", change: func(w *world) { w.live = w.live[1:] }},
		"Drift":       {reason: "a release that was edited", change: func(w *world) { w.live[0].Spec.Suspend = true }},
		"Going":       {reason: "a release that is being deleted", change: func(w *world) { w.live[0].DeletionTimestamp = new(metav1.Now()) }},
		"NotReady":    {reason: "a release that has failed", change: func(w *world) { w.live[0].Status.Conditions[0].Status = metav1.ConditionFalse }},
		"NotSeen":     {reason: "a generation that helm-controller has not seen", change: func(w *world) { w.live[0].Generation = 5 }},
		"Foreign":     {reason: "another's release", change: func(w *world) { delete(w.live[0].Labels, v1alpha1.LabelHeritage) }},
		"MadeAgain":   {reason: "a release of a group that had the name before", change: func(w *world) { w.live[0].Annotations[v1alpha1.AnnotationGroupUID] = "elder" }},
		"Application": {reason: "an application that has left", change: func(w *world) { w.group.Spec.Applications = w.group.Spec.Applications[:1] }},
		"Added":       {reason: "an application that is new", change: func(w *world) { w.group.Spec.Applications = append(w.group.Spec.Applications, application("new")) }},
		"Job":         {reason: "a Job that has completed", before: group(jobOnly()), change: func(*world) {}, want: true},
		"JobGone":     {reason: "a Job that is gone", before: group(jobOnly()), change: func(w *world) { w.jobs = nil }},
		"JobRuns":     {reason: "a Job that runs", before: group(jobOnly()), change: func(w *world) { w.jobs[0].Status.Conditions = nil }},
		"JobFailed":   {reason: "a Job that has failed", before: group(jobOnly()), change: func(w *world) { w.jobs[0].Status.Conditions[0].Type = batchv1.JobFailed }},
		"JobOfAnElder": {reason: "a Job of a group that had the name before", before: group(jobOnly()),
			change: func(w *world) { w.jobs[0].Annotations[v1alpha1.AnnotationGroupUID] = "elder" }},
		"JobAdded": {reason: "a Job that is new", before: group(with(gated(), func(s *v1alpha1.ApplicationSpec) { s.Workflow = s.Workflow[1:2]; s.Workflow[0].Dependencies = nil })),
			change: func(w *world) { w.group = group(jobOnly()) }},
		"Gate":      {reason: "a wait that the last good revision had", before: group(gated()), change: func(*world) {}, want: true},
		"GateNew":   {reason: "a wait of which nothing is known", before: group(gated()), change: func(w *world) { w.last = nil }},
		"GateOther": {reason: "a wait for something else", before: group(gated()), change: func(w *world) { w.group.Spec.Applications[0].Spec.Workflow[3].Wait.Name = "other" }},
		"GateFailed": {reason: "releases that are ready behind which a step has failed", before: group(gated()),
			change: func(w *world) {
				older := w.last.Spec.DeepCopy()
				older.Applications[0].Spec.Release.Values = raw(`{"older":true}`)
				w.last.Spec = *older
			}},
		"GateCharts": {reason: "charts that the last good revision did not have", before: group(gated()), change: func(w *world) { w.last.Staged[0].Pieces[0].Digest = "older" }},
		"ReadyExpr":  {reason: "another readyExpr", change: func(w *world) { w.group.Spec.Applications[0].Spec.Release.ReadyExpr = "true" }},
		"Pods":       {reason: "a pod is not run for a release that did not change", before: inPods(), change: func(*world) {}, want: true},
		"PodOther":   {reason: "another image", before: inPods(), change: func(w *world) { w.group.Spec.Applications[1].Spec.Workflow[0].Image.Image = "other" }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			before := tc.before
			if before == nil {
				before = base()
			}
			w := world{group: before.DeepCopy()}
			first := input(before, nil)
			w.live, w.jobs = rolledOut(t, forward(t, before, first.Staged))
			last := compile.NewRevision(first)
			o, err := last.Object(compile.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if last, err = compile.RevisionOf(o); err != nil { // as it is read back
				t.Fatal(err)
			}
			w.last = &last
			tc.change(&w)
			in := input(w.group, w.live)
			p, err := compile.Forward(in)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Stands(in) && p.Passed(in, w.jobs, w.last); got != tc.want {
				t.Errorf("%s: unchanged is %v", tc.reason, got)
			}
		})
	}
}

// jobOnly is an application whose release has a migration before it and no other gate.
func jobOnly() v1alpha1.Application {
	return with(gated(), func(s *v1alpha1.ApplicationSpec) { s.Workflow = s.Workflow[:2] })
}
