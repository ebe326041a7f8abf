package compile_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/compiler/compile"
)

// split is an application with a subchart, whose piece sees only its own values.
func split(change func(*v1alpha1.ApplicationSpec)) (*v1alpha1.ApplicationGroup, []events.StagedApplication) {
	g := group(with(subcharts(application("web"), dag("db")), change))
	staged := stage(g, nil)
	staged[0].Pieces[0].ValuePaths = []string{"db", "global"}
	return g, staged
}

func compiled(t *testing.T, in compile.Input) *compile.Plan {
	t.Helper()
	in.Rollout = rollout("group")
	p, err := compile.Forward(in)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A value that only one piece can see changes only that piece's release.
func TestValuesByPiece(t *testing.T) {
	plan := func(values string) *compile.Plan {
		g, staged := split(func(s *v1alpha1.ApplicationSpec) { s.Release.Values = raw(values) })
		return compiled(t, compile.Input{Group: g, Staged: staged})
	}
	p := plan(`{"db":{"size":3},"front":{"color":"red"},"gone":null}`)
	db, web := nodeOf(t, p, "web.web-db").Release, nodeOf(t, p, "web.web-web").Release
	if got := string(db.Spec.Values.Raw); got != `{"db":{"size":3}}` {
		t.Errorf("the piece has the values that it can see: %s", got)
	}
	if got := string(web.Spec.Values.Raw); got != `{"db":{"size":3},"front":{"color":"red"},"gone":null}` {
		t.Errorf("the parent has all of them: %s", got)
	}
	other := plan(`{"front":{"color":"blue"},"db":{"size":3}}`)
	if diff := cmp.Diff(db.Spec, nodeOf(t, other, "web.web-db").Release.Spec); diff != "" {
		t.Errorf("a value that the piece cannot see changes it:\n%s", diff)
	}
	if none := nodeOf(t, plan(`{"front":1}`), "web.web-db").Release.Spec.Values; none != nil {
		t.Errorf("where there is nothing to see there are no values: %s", none.Raw)
	}
}

// Values that came from elsewhere are in a Secret that is named by what it holds.
func TestValuesFrom(t *testing.T) {
	from := func(s *v1alpha1.ApplicationSpec) {
		s.Release.ValuesFrom = []helmv2.ValuesReference{{Kind: "Secret", Name: "mine"}}
		s.Release.Values = raw(`{"front":1}`)
	}
	plan := func(values map[string]any) *compile.Plan {
		g, staged := split(from)
		return compiled(t, compile.Input{Group: g, Staged: staged, Values: map[string]map[string]any{"web": values}})
	}
	p := plan(map[string]any{"front": 1, "db": map[string]any{"password": "hunter2"}})
	node := nodeOf(t, p, "web.web-db")
	if node.Values == nil || string(node.Values.Data["values.yaml"]) != `{"db":{"password":"hunter2"}}` {
		t.Fatalf("the Secret holds what the piece can see: %+v", node.Values)
	}
	promises := map[string]bool{
		"the release refers to it":            len(node.Release.Spec.ValuesFrom) == 1 && node.Release.Spec.ValuesFrom[0] == helmv2.ValuesReference{Kind: "Secret", Name: node.Values.Name},
		"and has no values of its own":        node.Release.Spec.Values == nil,
		"it is in the target namespace":       node.Values.Namespace == "target",
		"it is immutable":                     *node.Values.Immutable,
		"its name says what it is":            strings.HasPrefix(node.Values.Name, "orkestra-values-") && len(node.Values.Name) == len("orkestra-values-")+16,
		"it is marked":                        node.Values.Labels[v1alpha1.LabelValues] == "true" && node.Values.Labels[v1alpha1.LabelOwner] == "group" && node.Values.Labels[v1alpha1.LabelHeritage] == v1alpha1.Heritage,
		"the group owns it":                   node.Values.OwnerReferences[0].Kind == v1alpha1.Kind,
		"each piece has its own":              nodeOf(t, p, "web.web-web").Values.Name != node.Values.Name,
		"the same values have the same name":  nodeOf(t, plan(map[string]any{"front": 2, "db": map[string]any{"password": "hunter2"}}), "web.web-db").Values.Name == node.Values.Name,
		"and other values another":            nodeOf(t, plan(map[string]any{"db": map[string]any{"password": "other"}}), "web.web-db").Values.Name != node.Values.Name,
		"no value is in the workflow":         !strings.Contains(text(t, p.Workflow), "hunter2"),
		"without values there is no Secret":   nodeOf(t, plan(map[string]any{}), "web.web-db").Values == nil,
		"and the release refers to none then": nodeOf(t, plan(map[string]any{}), "web.web-db").Release.Spec.ValuesFrom == nil,
	}
	for promise, kept := range promises {
		if !kept {
			t.Errorf("%s: it is not so", promise)
		}
	}
}

func text(t testing.TB, of any) string {
	t.Helper()
	data, err := json.Marshal(of)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestReleaseOptions(t *testing.T) {
	g := group(with(application("a"), func(s *v1alpha1.ApplicationSpec) {
		s.Release.ServiceAccountName = "deployer"
		s.Release.KubeConfig = &meta.KubeConfigReference{SecretRef: &meta.SecretKeyReference{Name: "other-cluster"}}
		s.Release.MaxHistory = new(3)
		s.Release.DriftDetection = &helmv2.DriftDetection{Mode: helmv2.DriftDetectionEnabled}
		s.Release.PostRenderers = []helmv2.PostRenderer{{Kustomize: &helmv2.Kustomize{}}}
		s.Release.CommonMetadata = &helmv2.CommonMetadata{Labels: map[string]string{"team": "web"}}
		s.Release.Test = &helmv2.Test{Enable: true}
		s.Release.ReadyExpr = "self.status.history.size() > 0"
	}))
	n := nodeOf(t, forward(t, g, stage(g, nil)), "a.a-a")
	want, got := g.Spec.Applications[0].Spec.Release, n.Release.Spec
	if diff := cmp.Diff([]any{want.ServiceAccountName, want.KubeConfig, want.MaxHistory, want.DriftDetection, want.PostRenderers, want.CommonMetadata, want.Test, want.ReadyExpr},
		[]any{got.ServiceAccountName, got.KubeConfig, got.MaxHistory, got.DriftDetection, got.PostRenderers, got.CommonMetadata, got.Test, n.ReadyExpr}); diff != "" {
		t.Errorf("an option is not what was asked for (-want +got):\n%s", diff)
	}
	got.CommonMetadata.Labels["team"] = "other"
	if want.CommonMetadata.Labels["team"] != "web" {
		t.Error("a plan shares no memory with the group that it was made of")
	}
}

// A rollback takes the values that the revision had, which are not in the revision.
func TestRevisionKeepsValues(t *testing.T) {
	from := func(s *v1alpha1.ApplicationSpec) {
		s.Release.ValuesFrom = []helmv2.ValuesReference{{Kind: "Secret", Name: "mine"}}
	}
	g, staged := split(from)
	in := compile.Input{Group: g, Staged: staged, Rollout: rollout("group"), Values: map[string]map[string]any{"web": {"db": "hunter2"}}}
	before := compiled(t, in)
	revision := compile.NewRevision(in)
	o, err := revision.Object(compile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(o.Data.Raw), "hunter2") {
		t.Errorf("a ControllerRevision is no secret: %s", o.Data.Raw)
	}
	o.UID = "uid-of-revision"
	snapshot, err := revision.Snapshot(o)
	if err != nil {
		t.Fatal(err)
	}
	if snapshot.Name != o.Name+"-values" || snapshot.OwnerReferences[0].UID != o.UID {
		t.Errorf("the Secret is the revision's: %+v", snapshot.ObjectMeta)
	}
	kept, err := compile.RevisionOf(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := compile.Rollback(in, kept); !lost(err) {
		t.Errorf("without its values a revision cannot be gone back to: %v", err)
	}
	if kept, err = kept.WithSnapshot(snapshot); err != nil {
		t.Fatal(err)
	}
	if same, err := kept.SameAs(revision); err != nil || !same {
		t.Errorf("what is read back is what was kept: %v, %v", same, err)
	}
	in.Values = map[string]map[string]any{"web": {"db": "newer"}}
	back, err := compile.Rollback(in, kept)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(nodeOf(t, before, "web.web-db").Values.Data, nodeOf(t, back, "web.web-db").Values.Data); diff != "" {
		t.Errorf("a rollback has the values of its revision (-want +got):\n%s", diff)
	}
	plain := compile.NewRevision(compile.Input{Group: group(application("a")), Rollout: rollout("group")})
	if none, err := plain.Snapshot(&appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: "r"}}); none != nil || err != nil {
		t.Errorf("values of the spec need no Secret: %v, %v", none, err)
	}
}

func lost(err error) bool {
	refused, ok := errors.AsType[*compile.Error](err)
	return ok && refused.Reason == v1alpha1.ReasonValuesNotFound && strings.Contains(refused.Error(), "-values")
}
