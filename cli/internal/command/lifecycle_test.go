package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/compiler/compile"
)

const shopUID = "6c1f5c4e-7b1e-4a54-8a4d-0e5f1d2c3b4a"

// world is a cluster with the group shop, and how to run a command line on it.
type world struct {
	t      *testing.T
	client client.Client
}

func newWorld(t *testing.T, faults interceptor.Funcs, objects ...client.Object) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	config := "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c}}], clusters: [{name: c, cluster: {server: 'https://example.com'}}]}"
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", path)
	zone := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = zone })
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	return &world{t, fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(faults).Build()}
}

func (w *world) run(args ...string) (code int, out, errs string) {
	w.t.Helper()
	var o, e bytes.Buffer
	s := Streams{In: strings.NewReader(""), Out: &o, Err: &e}
	root := newRoot("orkestra", s, func(*rest.Config) (client.Client, error) { return client.WithFieldOwner(w.client, fieldOwner), nil })
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	code = execute(ctx, root, args, s)
	return code, o.String(), e.String()
}

// says checks what a command line answers: the exit code, the output as it is, and
// something of the errors.
func (w *world) says(code int, out, errs string, args ...string) {
	w.t.Helper()
	gotCode, gotOut, gotErrs := w.run(args...)
	if diff := cmp.Diff(strings.TrimPrefix(out, "\n"), gotOut); gotCode != code || diff != "" {
		w.t.Errorf("%v: exit code %d, want %d; errors %q; output (-want +got):\n%s", args, gotCode, code, gotErrs, diff)
	}
	if !strings.Contains(gotErrs, errs) || errs == "" && gotErrs != "" {
		w.t.Errorf("%v: errors %q, want %q in them", args, gotErrs, errs)
	}
}

func (w *world) group() *v1alpha1.ApplicationGroup {
	w.t.Helper()
	g := &v1alpha1.ApplicationGroup{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: "shop"}, g); err != nil {
		w.t.Fatal(err)
	}
	return g
}

// shopAt is the group in a generation, with web in a version.
func shopAt(generation int64, version string, conditions ...metav1.Condition) *v1alpha1.ApplicationGroup {
	for i := range conditions {
		conditions[i].ObservedGeneration = generation
	}
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: shopUID, Generation: generation}}
	g.Spec.Applications = []v1alpha1.Application{
		{DAG: v1alpha1.DAG{Name: "mesh"}, Spec: v1alpha1.ApplicationSpec{
			Chart: v1alpha1.ChartRef{URL: "https://charts.example.com", Name: "mesh", Version: "2.0.0"}, Release: v1alpha1.Release{TargetNamespace: "mesh"},
		}},
		{DAG: v1alpha1.DAG{Name: "web", Dependencies: []string{"mesh"}}, Spec: v1alpha1.ApplicationSpec{
			Chart: v1alpha1.ChartRef{URL: "https://charts.example.com", Name: "web", Version: version}, Release: v1alpha1.Release{TargetNamespace: "shop"},
		}},
	}
	g.SetDefaults()
	g.Status.Conditions = conditions
	return g
}

// kept is the revision of the group as it is, which came to a version of web.
func kept(t *testing.T, g *v1alpha1.ApplicationGroup, version string, good bool) client.Object {
	t.Helper()
	o, err := compile.Revision{
		Rollout: events.Rollout{Group: g.Name, UID: string(g.UID), Generation: g.Generation}, Spec: g.Spec,
		Staged: []events.StagedApplication{
			{Name: "mesh", Chart: "mesh", Version: "2.0.0", Pieces: []events.StagedPiece{{Chart: "mesh", Version: "2.0.0"}}},
			{Name: "web", Chart: "web", Version: version, Pieces: []events.StagedPiece{{Subchart: "db", SubchartVersion: version}, {Chart: "web", Version: version}}},
		},
	}.Object(compile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o.CreationTimestamp = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, int(g.Generation), 0, time.UTC))
	if good {
		o.Labels[v1alpha1.LabelRevision] = v1alpha1.RevisionGood
	}
	return o
}

// three is a group of three revisions: the first two good, and the third rolled back.
func three(t *testing.T) []client.Object {
	third := shopAt(3, "3.0.0", isFailed, isStalled)
	back := &wfv1.Workflow{ObjectMeta: metav1.ObjectMeta{
		Name: "back", Namespace: compile.DefaultNamespace, Labels: map[string]string{v1alpha1.LabelOwner: "shop", v1alpha1.LabelWorkflowType: "rollback"},
		Annotations: map[string]string{v1alpha1.AnnotationRollout: `{"group":"shop","uid":"` + shopUID + `","generation":3}`},
	}, Status: wfv1.WorkflowStatus{Phase: wfv1.WorkflowSucceeded}}
	return []client.Object{
		third, back, kept(t, shopAt(1, "^1.0.0"), "1.0.0", true), kept(t, shopAt(2, "^1.0.0"), "1.1.0", true), kept(t, third, "3.0.0", false),
	}
}

func TestHistory(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{}, three(t)...)
	w.says(0, `
REVISION  GENERATION  BEGUN                STATUS       CHARTS                 WORKFLOW
1         1           2026-01-02 03:04:01  good         mesh 2.0.0, web 1.0.0  shop-forward-g1-1047db0e
2         2           2026-01-02 03:04:02  current      mesh 2.0.0, web 1.1.0  shop-forward-g2-d9527b4b
3         3           2026-01-02 03:04:03  rolled back  mesh 2.0.0, web 3.0.0  shop-forward-g3-49e5dd50
`, "", "history", "shop")
	_, out, _ := w.run("history", "shop", "-o", "yaml")
	var views []revisionView
	if err := yaml.Unmarshal([]byte(out), &views); err != nil || len(views) != 3 {
		t.Fatalf("%v\n%s", err, out)
	}
	want := chartView{Application: "web", Chart: "web", Version: "1.1.0", Subcharts: map[string]string{"db": "1.1.0"}}
	if diff := cmp.Diff(want, views[1].Charts[1]); diff != "" || views[1].Revision != 2 || views[1].Status != "current" || !views[1].Good {
		t.Errorf("for programs (-want +got):\n%s\n%+v", diff, views[1])
	}
	w.says(1, "", "there is no group shp; did you mean shop?", "history", "shp")
	w.says(1, "", "there is no group other; there are shop", "history", "other")
	newWorld(t, interceptor.Funcs{}, shopAt(1, "1.0.0")).says(0, "", "has no revisions", "history", "shop")
	newWorld(t, interceptor.Funcs{}).says(1, "", "no groups in this cluster", "history", "shop")
}

// Where two applications have one chart in two versions, the history says whose is which.
func TestHistoryOfOneChartInTwoVersions(t *testing.T) {
	g := shopAt(1, "1.0.0")
	staged := []events.StagedApplication{{Name: "a", Chart: "small", Version: "1.0.0"}, {Name: "b", Chart: "small", Version: "2.0.0"}, {Name: "c", Chart: "small", Version: "1.0.0"}}
	o, err := compile.Revision{Rollout: events.Rollout{Group: g.Name, UID: string(g.UID), Generation: 1}, Spec: g.Spec, Staged: staged}.Object(compile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if code, out, errs := newWorld(t, interceptor.Funcs{}, g, o).run("history", "shop"); code != 0 || !strings.Contains(out, "  small 1.0.0 (a, c), small 2.0.0 (b)  ") {
		t.Errorf("exit code %d: %s\n%s", code, errs, out)
	}
}

func TestDiff(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{}, three(t)...)
	w.says(1, `
upgraded    application web: web 1.1.0 (of ^1.0.0) -> 3.0.0
upgraded    subchart web/db: 1.1.0 -> 3.0.0

--- shop revision 2 (current)
+++ shop spec (generation 3)
@@ -16,7 +16,7 @@
       chart:
         name: web
         url: https://charts.example.com
-        version: ^1.0.0
+        version: 3.0.0
       release:
         interval: 5m0s
         targetNamespace: shop
`, "", "diff", "shop")
	w.says(1, `
downgraded  application web: web 1.1.0 (of ^1.0.0) -> 1.0.0 (of ^1.0.0)
downgraded  subchart web/db: 1.1.0 -> 1.0.0
`, "", "diff", "shop", "--revision", "1")
	w.says(0, "", "", "diff", "shop", "--revision", "2")
	w.says(2, "", "no revision 9; it has 3 (rolled back), 2 (current), 1 (good)", "diff", "shop", "--revision", "9")
	w.says(2, "", "there is no group", "diff", "other")

	same := write(t, mustYAML(t, shopAt(2, "^1.0.0")))
	w.says(0, "", "", "diff", "shop", "-f", same)
	w.says(0, "", "", "diff", "-f", same)
	w.says(2, "", "group other is not in the files; they have [shop]", "diff", "other", "-f", same)
	w.says(2, "", "spec.applications", "diff", "-f", write(t, strings.ReplaceAll(mustYAML(t, shopAt(2, "^1.0.0")), "- mesh", "- mash")))
	code, out, _ := newWorld(t, interceptor.Funcs{}).run("diff", "-f", same, "-o", "json")
	var all struct {
		Changes []struct{ Kind, Application string }
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != 1 || len(all.Changes) != 2 || all.Changes[0].Kind != "added" {
		t.Errorf("of a group that is not in the cluster all is new: exit code %d, %v\n%s", code, err, out)
	}
}

func mustYAML(t *testing.T, g *v1alpha1.ApplicationGroup) string {
	t.Helper()
	g.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.Kind}
	raw, err := yaml.Marshal(map[string]any{"apiVersion": g.APIVersion, "kind": g.Kind, "metadata": map[string]string{"name": g.Name}, "spec": g.Spec})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestRollback(t *testing.T) {
	var owners []string
	w := newWorld(t, interceptor.Funcs{Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
		owners = append(owners, (&client.UpdateOptions{}).ApplyOptions(opts).FieldManager)
		return c.Update(ctx, o, opts...)
	}}, three(t)...)
	const shown = `
downgraded  application web: web 3.0.0 -> 1.1.0
downgraded  subchart web/db: 3.0.0 -> 1.1.0

--- shop spec (generation 3)
+++ shop revision 2 (current), versions as resolved then
@@ -16,7 +16,7 @@
       chart:
         name: web
         url: https://charts.example.com
-        version: 3.0.0
+        version: 1.1.0
       release:
         interval: 5m0s
         targetNamespace: shop
`
	w.says(2, shown, "say --yes", "rollback", "shop")
	w.says(0, shown+"shop: would go back to revision 2 (client dry run)\n", "", "rollback", "shop", "--dry-run")
	w.says(0, shown+"shop: would go back to revision 2 (server dry run)\n", "", "rollback", "shop", "--dry-run=server")
	if v := w.group().Spec.Applications[1].Spec.Chart.Version; v != "3.0.0" {
		t.Fatalf("nothing is written until it is agreed to; version %s", v)
	}
	w.says(0, shown+"shop: goes back to revision 2, as generation 3\n", "", "rollback", "shop", "--yes")
	if v := w.group().Spec.Applications[1].Spec.Chart.Version; v != "1.1.0" {
		t.Errorf("the version that was resolved is written, not the range; version %s", v)
	}
	if diff := cmp.Diff([]string{fieldOwner, fieldOwner}, owners); diff != "" {
		t.Errorf("it is known who wrote (-want +got):\n%s", diff)
	}
	w.says(1, "", "nothing would change", "rollback", "shop", "--revision", "2", "--yes")
	w.says(1, "", "no revision 9; it has 3 (rolled back), 2 (current), 1 (good)", "rollback", "shop", "--revision", "9", "--yes")
}

func TestRollbackIsCareful(t *testing.T) {
	first := shopAt(1, "1.0.0")
	newWorld(t, interceptor.Funcs{}, first, kept(t, first, "1.0.0", true)).says(1, "", "no earlier revision", "rollback", "shop", "--yes")

	// Somebody else writes between our look and our write.
	meddled := false
	meddle := interceptor.Funcs{Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
		if !meddled {
			meddled = true
			live := &v1alpha1.ApplicationGroup{}
			if err := c.Get(ctx, client.ObjectKeyFromObject(o), live); err != nil {
				return err
			}
			live.Spec.Applications[0].Spec.Chart.Version = "4.0.0"
			if err := c.Update(ctx, live); err != nil {
				return err
			}
		}
		return c.Update(ctx, o, opts...)
	}}
	w := newWorld(t, meddle, three(t)...)
	if code, _, errs := w.run("rollback", "shop", "--yes"); code != 1 || !strings.Contains(errs, "by somebody else in the meantime") {
		t.Errorf("another's change is not written over: exit code %d: %s", code, errs)
	}
	if v := w.group().Spec.Applications[0].Spec.Chart.Version; v != "4.0.0" {
		t.Errorf("another's change stays; version %s", v)
	}

	objects := three(t)
	held := objects[0].(*v1alpha1.ApplicationGroup)
	held.Spec.Suspend = true
	w = newWorld(t, interceptor.Funcs{}, objects...)
	w.says(1, "", "use '", "retry", "shop")
	w.says(1, "", "orkestra resume shop", "rollback", "shop", "--yes", "--wait")
	if code, _, errs := w.run("rollback", "shop", "--revision", "3", "--yes"); code != 1 || !strings.Contains(errs, "nothing would change") {
		t.Errorf("that the group is suspended is no difference: exit code %d: %s", code, errs)
	}
	if code, _, errs := w.run("rollback", "shop", "--yes"); code != 0 || !strings.Contains(errs, "warning: group shop is suspended") || !w.group().Spec.Suspend {
		t.Errorf("a group that is suspended stays so, and that is said: exit code %d: %s", code, errs)
	}
	if code, _, errs := w.run("rollback", "shop", "--revision", "3", "--yes"); code != 0 || !strings.Contains(errs, "revision 3 was never rolled out whole: rolled back") {
		t.Errorf("whoever goes to what has failed is warned: exit code %d: %s", code, errs)
	}
}

// watched is the group as a watcher leaves it: whatever was asked for is done.
func watched(over ...metav1.Condition) interceptor.Funcs {
	return interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
		err := c.Get(ctx, key, o, opts...)
		if g, ok := o.(*v1alpha1.ApplicationGroup); ok && g.Annotations[v1alpha1.AnnotationRequestedAt] != "" {
			g.Status.LastHandledReconcileAt = g.Annotations[v1alpha1.AnnotationRequestedAt]
			g.Status.Conditions = over
			for i := range over {
				over[i].ObservedGeneration = g.Generation
			}
		}
		return err
	}}
}

func TestReconcileAndRetry(t *testing.T) {
	w := newWorld(t, watched(isReady), shopAt(2, "1.0.0", isFailed, isStalled))
	before := time.Now().Add(-time.Second)
	w.says(0, "shop: asked for a rollout of generation 2\nshop/mesh/mesh                           Pending\nshop/web/web                             Pending\nshop                                     Ready      done\n", "", "retry", "shop", "--wait")
	at, err := time.Parse(time.RFC3339Nano, w.group().Annotations[v1alpha1.AnnotationRequestedAt])
	if err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("a rollout is asked for now: %s, %v", at, err)
	}
	w.says(1, "", "it is ready: to roll it out again use 'orkestra reconcile shop'", "retry", "shop")
	w.says(0, "shop: asked for a rollout of generation 2\n", "", "reconcile", "shop")

	w = newWorld(t, watched(isFailed, isStalled), shopAt(2, "1.0.0"))
	if code, out, errs := w.run("reconcile", "shop", "--wait"); code != 1 || !strings.Contains(out, "WorkflowFailed") {
		t.Errorf("who waits for what fails is told: exit code %d: %s%s", code, out, errs)
	}
	going := shopAt(2, "1.0.0")
	going.DeletionTimestamp, going.Finalizers = new(metav1.Now()), []string{v1alpha1.Finalizer}
	for _, verb := range []string{"reconcile", "retry", "suspend", "resume", "rollback"} {
		newWorld(t, interceptor.Funcs{}, going).says(1, "", "group shop is being deleted: see how far it is with 'orkestra status shop'", verb, "shop")
	}
}

func TestRetriable(t *testing.T) {
	handled := func(g *v1alpha1.ApplicationGroup) *v1alpha1.ApplicationGroup {
		g.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: "now"}
		return g
	}
	pulling := isFailed
	pulling.Reason = v1alpha1.ReasonChartPullFailed
	held := shopAt(2, "1.0.0", isFailed, isStalled)
	held.Spec.Suspend = true
	cases := map[string]struct {
		reason string
		group  *v1alpha1.ApplicationGroup
		advice string // empty where it may be tried again
	}{
		"Failed":    {reason: "it failed, and nothing more happens", group: shopAt(2, "1.0.0", isFailed, isStalled)},
		"Pulling":   {reason: "a chart is being tried for: now is sooner", group: shopAt(2, "1.0.0", pulling)},
		"Ready":     {reason: "it has not failed", group: shopAt(2, "1.0.0", isReady), advice: "kubectl orkestra reconcile shop"},
		"Back":      {reason: "it is on its way back", group: shopAt(2, "1.0.0", isFailed), advice: "still on its way back"},
		"New":       {reason: "nobody has looked at it", group: shopAt(2, "1.0.0"), advice: "status shop --watch"},
		"Asked":     {reason: "it was asked for again already", group: handled(shopAt(2, "1.0.0", isFailed, isStalled)), advice: "status shop --watch"},
		"Suspended": {reason: "nothing of it is rolled out", group: held, advice: "kubectl orkestra resume shop"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			err := retriable("kubectl orkestra", tc.group)
			if (err == nil) != (tc.advice == "") || err != nil && !strings.Contains(err.Error(), tc.advice) {
				t.Errorf("%s: %v", tc.reason, err)
			}
		})
	}
}

func TestSuspendAndResume(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{}, shopAt(1, "1.0.0", isReady))
	w.says(0, "shop: is not suspended\n", "", "resume", "shop")
	w.says(0, "shop: suspended\n", "", "suspend", "shop")
	if !w.group().Spec.Suspend {
		t.Error("the group is suspended")
	}
	w.says(0, "shop: is suspended already\n", "", "suspend", "shop")
	w.says(0, "shop: resumed, as generation 1\nshop/mesh/mesh                           Pending\nshop/web/web                             Pending\nshop                                     Ready      done\n", "", "resume", "shop", "--wait")
	if w.group().Spec.Suspend {
		t.Error("the group is not suspended")
	}
}

func TestDelete(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{}, shopAt(1, "1.0.0"))
	w.says(2, "", "say --yes", "delete", "shop")
	w.says(0, "shop: is being deleted\nthe group is gone\n", "", "delete", "shop", "--yes", "--wait")
	w.says(1, "", "there is no group shop", "delete", "shop", "--yes")

	stuck := shopAt(2, "1.0.0", isFailed, isStalled)
	stuck.Finalizers = []string{v1alpha1.Finalizer}
	w = newWorld(t, interceptor.Funcs{}, stuck)
	if code, out, _ := w.run("delete", "shop", "--yes", "--wait"); code != 1 || !strings.Contains(out, "WorkflowFailed: web: no") {
		t.Errorf("a deletion that does not go on says why: exit code %d: %s", code, out)
	}
	w.says(0, "shop: is being deleted already\n", "", "delete", "shop")
	if g := w.group(); g.DeletionTimestamp.IsZero() || g.Annotations[v1alpha1.AnnotationForceDelete] != "" {
		t.Errorf("it is deleted, and not by force: %+v", g.ObjectMeta)
	}
}

func TestDeleteByForce(t *testing.T) {
	mine := map[string]string{v1alpha1.LabelOwner: "shop"}
	ours := map[string]string{v1alpha1.AnnotationGroupUID: shopUID}
	broken := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", Labels: mine, Annotations: ours}}
	broken.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse, Message: "uninstall\nfailed"}}
	group := shopAt(1, "1.0.0")
	group.Finalizers = []string{v1alpha1.Finalizer}
	objects := []client.Object{
		group, broken,
		&helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Name: "old", Namespace: "shop", Labels: mine}},
		&wfv1.Workflow{ObjectMeta: metav1.ObjectMeta{Name: "going", Namespace: compile.DefaultNamespace, Labels: mine, Annotations: ours}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "orkestra-shop-db", Labels: mine}},
	}
	w := newWorld(t, interceptor.Funcs{}, objects...)
	code, out, errs := w.run("delete", "shop", "--force", "--yes")
	want := `WARNING: group shop goes at once: its releases are deleted in no order, and nobody looks whether they go.
What follows, and all that these have installed, may stay, with nobody left to look after it:
  HelmRelease shop/web: uninstall failed
  Namespace orkestra-shop-db
  Workflow orkestra/going, which has not finished
`
	if diff := cmp.Diff(want, errs); code != 0 || out != "shop: goes at once\n" || diff != "" {
		t.Errorf("exit code %d: %s (-want +got):\n%s", code, out, diff)
	}
	if g := w.group(); g.DeletionTimestamp.IsZero() || g.Annotations[v1alpha1.AnnotationForceDelete] != "true" {
		t.Errorf("it is deleted, by force: %+v", g.ObjectMeta)
	}
	// Not to be allowed to delete leaves no mark for the next deletion.
	refuse := interceptor.Funcs{Delete: func(context.Context, client.WithWatch, client.Object, ...client.DeleteOption) error {
		return apierrors.NewForbidden(schema.GroupResource{}, "shop", errors.New("no"))
	}}
	w = newWorld(t, refuse, shopAt(1, "1.0.0"))
	if code, _, errs := w.run("delete", "shop", "--force", "--yes"); code != 1 || !strings.Contains(errs, "There is nothing of it that could stay") || w.group().Annotations != nil {
		t.Errorf("exit code %d: %s; %v", code, errs, w.group().Annotations)
	}
}

func TestStatusList(t *testing.T) {
	going := shopAt(1, "1.0.0", metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonProgressing, Message: "under way"})
	going.Name, going.Status.Rollout = "bookinfo", &v1alpha1.RolloutStatus{Generation: 1, Type: "forward", Progress: "3/6", Workflow: "w"}
	failed := shopAt(2, "1.0.0", isFailed, isStalled)
	failed.Status.Conditions[0].Message = strings.Repeat("long ", 40)
	for _, g := range []*v1alpha1.ApplicationGroup{going, failed} {
		g.CreationTimestamp = metav1.NewTime(time.Now().Add(-90 * time.Minute))
	}
	w := newWorld(t, interceptor.Funcs{}, failed, going)
	w.says(0, `
NAME      PHASE    ROLLOUT      APPLICATIONS  AGE  MESSAGE
bookinfo  Working  forward 3/6  2             90m  under way
shop      Failed                2             90m  WorkflowFailed: long long long long long long long long long long l…
`, "", "status")
	_, out, _ := w.run("status", "-o", "json")
	var views []view
	if err := json.Unmarshal([]byte(out), &views); err != nil || len(views) != 2 || views[0].Rollout.Progress != "3/6" || views[1].Phase != "Failed" {
		t.Errorf("%v\n%s", err, out)
	}
	_, out, _ = w.run("status", "shop", "-o", "yaml")
	var one view
	if err := yaml.Unmarshal([]byte(out), &one); err != nil || len(one.Applications) != 2 || one.Applications[1].Releases[0].Name != "web" {
		t.Errorf("%v\n%s", err, out)
	}
	newWorld(t, interceptor.Funcs{}).says(0, "", "no groups", "status")
}

func TestAsk(t *testing.T) {
	for answer, want := range map[string]error{"y\n": nil, " YES \n": nil, "yes": nil, "n\n": errFailed, "\n": errFailed, "": errFailed, "yup\n": errFailed} {
		var out bytes.Buffer
		if err := ask(t.Context(), strings.NewReader(answer), &out, "Go?"); !errors.Is(err, want) || !strings.HasPrefix(out.String(), "Go? [y/N] ") {
			t.Errorf("%q: %v, %q", answer, err, out.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never, open := io.Pipe()
	defer open.Close()
	if err := ask(ctx, never, &bytes.Buffer{}, "Go?"); !errors.Is(err, errFailed) {
		t.Errorf("an interrupt is a no: %v", err)
	}
}

func TestColored(t *testing.T) {
	want := "\x1b[1m--- a\x1b[0m\n\x1b[36m@@ -1 +1 @@\x1b[0m\n\x1b[31m-x\x1b[0m\n\x1b[32m+y\x1b[0m\n z\n"
	if diff := cmp.Diff(want, colored("--- a\n@@ -1 +1 @@\n-x\n+y\n z\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
