package compile_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/compiler/compile"
)

// actions of a plan's nodes.
func actions(p *compile.Plan) map[string]plan.Action {
	out := map[string]plan.Action{}
	for _, n := range p.Nodes {
		out[n.Task] = n.Action
	}
	return out
}

func input(g *v1alpha1.ApplicationGroup, live []helmv2.HelmRelease) compile.Input {
	return compile.Input{Group: g, Staged: stage(g, nil), Inventory: live, Rollout: rollout(g.Name)}
}

// What the spec calls for comes up before what has left it goes, in reverse.
func TestWhatLeftTheSpecGoesLast(t *testing.T) {
	before := group(application("a"), application("b", "a"), application("c", "b"), application("d", "c"))
	live := inventory(forward(t, before, stage(before, nil)))
	p, err := compile.Forward(input(group(application("a"), application("b", "a")), live))
	if err != nil {
		t.Fatal(err)
	}
	got, _ := walk(t, p.Workflow)
	want := map[string][]string{"a": {}, "b": {"a"}, "remove-d": {"b"}, "remove-c": {"remove-d"}}
	if diff := cmp.Diff(want, got[""]); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]plan.Action{"a.a-a": plan.Install, "b.b-b": plan.Install, "remove-c.c-c": plan.Delete, "remove-d.d-d": plan.Delete}, actions(p)); diff != "" {
		t.Errorf("actions (-want +got):\n%s", diff)
	}
}

// A rollback brings the revision's charts and values back, and what was added goes.
func TestRollback(t *testing.T) {
	good := group(application("a"), application("b", "a"))
	earlier := rollout(good.Name)
	earlier.Generation--
	revision := compile.Revision{Rollout: earlier, Spec: good.Spec, Staged: stage(good, nil)}
	o, err := revision.Object(compile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var patched map[string]any // as the API server has it while it applies a strategic patch
	if err := utiljson.Unmarshal(o.Data.Raw, &patched); err != nil {
		t.Fatal(err)
	}
	if after, err := json.Marshal(patched); err != nil || string(after) != string(o.Data.Raw) {
		t.Errorf("data that must not change comes out of a patch as it went in: %s, %v, was %s", after, err, o.Data.Raw)
	}
	data, err := json.Marshal(o) // as the API server keeps it
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, o); err != nil {
		t.Fatal(err)
	}
	kept, err := compile.RevisionOf(o)
	if err != nil {
		t.Fatal(err)
	}
	failed := group(application("a"), application("new", "a"), application("b", "new"))
	failed.Spec.Applications[0].Spec.Chart.Version = "9.9.9"
	live := inventory(forward(t, failed, stage(failed, nil)))

	p, err := compile.Rollback(compile.Input{Group: failed, Inventory: live, Rollout: rollout(failed.Name)}, kept)
	if err != nil {
		t.Fatal(err)
	}
	if kind := p.Workflow.Labels[v1alpha1.LabelWorkflowType]; kind != string(events.WorkflowRollback) {
		t.Errorf("the workflow is of type %s", kind)
	}
	if to := p.Workflow.Annotations[v1alpha1.AnnotationRevision]; to != o.Name {
		t.Errorf("the workflow says that it goes back to %q, not to %q", to, o.Name)
	}
	if diff := cmp.Diff(map[string]plan.Action{"a.a-a": plan.Install, "b.b-b": plan.Install, "remove-new.new-new": plan.Delete}, actions(p)); diff != "" {
		t.Errorf("actions (-want +got):\n%s", diff)
	}
	want := forward(t, good, stage(good, nil))
	for _, n := range p.Nodes {
		for _, w := range want.Nodes {
			if n.Task != w.Task {
				continue
			}
			if diff := cmp.Diff(w.Release.Spec, n.Release.Spec); diff != "" {
				t.Errorf("%s is not what it was (-want +got):\n%s", n.Task, diff)
			}
		}
	}
	if failed.Spec.Applications[0].Spec.Chart.Version != "9.9.9" {
		t.Error("the group that was handed in is changed")
	}
}

// An application that is installed whole cannot be split, nor the other way.
func TestReshapedIsRefused(t *testing.T) {
	whole, split := group(application("a")), group(subcharts(application("a"), dag("x")))
	for name, tc := range map[string]struct{ from, to *v1alpha1.ApplicationGroup }{
		"Split": {whole, split}, "Joined": {split, whole},
	} {
		_, err := compile.Forward(input(tc.to, inventory(forward(t, tc.from, stage(tc.from, nil)))))
		refused, ok := errors.AsType[*compile.Error](err)
		if !ok || !strings.Contains(refused.Error(), "spec.applications[0].spec.subcharts") {
			t.Errorf("%s: want a refusal that names the field, got %v", name, err)
		}
	}
	if _, err := compile.Forward(input(split, inventory(forward(t, split, stage(split, nil))))); err != nil {
		t.Errorf("what stays as it is, is refused: %v", err)
	}
}
