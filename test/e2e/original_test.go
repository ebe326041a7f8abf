package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// Faults of the original that no other test has: its number is that of its list.

// A rollback takes the subcharts that were there, in the versions that they had, and
// takes away one that was added to an application that stays (fault 7). The status
// tells of subcharts too, where an application is named other than its chart (fault 11).
// The last good spec is in no annotation (fault 19).
func TestSubchartsAreRolledBack(t *testing.T) {
	s := serve(t)
	add(t, s, "umbrella", "1.0.0", umbrellaChart())
	newer := umbrellaChart()
	newer["Chart.yaml"] = "apiVersion: v2\nname: umbrella\nversion: 2.0.0\ndependencies:\n- {name: one, version: 2.0.0}\n- {name: two, version: 1.0.0}\n- {name: three, version: 1.0.0}\n"
	newer["charts/one/Chart.yaml"] = "apiVersion: v2\nname: one\nversion: 2.0.0\n"
	newer["charts/one/values.yaml"] = "message: newer\n"
	newer["charts/three/Chart.yaml"] = "apiVersion: v2\nname: three\nversion: 1.0.0\n"
	for path, data := range configMapChart() {
		newer["charts/three/"+path] = data
	}
	add(t, s, "umbrella", "2.0.0", newer)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "small", "2.0.0", brokenChart())
	const name = "subback"
	g := chain(name, s.URL, 2)
	g.Spec.Applications[0].Spec.Chart.Name = "umbrella"
	g.Spec.Applications[0].Spec.Subcharts = []v1alpha1.DAG{{Name: "one"}, {Name: "two", Dependencies: []string{"one"}}}
	create(t, g)
	g = awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	for _, subchart := range []string{"one", "two"} {
		status := g.Status.Applications[0].Subcharts[subchart]
		if status.Version != "1.0.0" || !apimeta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReady) {
			t.Errorf("status of subchart %s: %s", subchart, mustJSON(t, status))
		}
	}
	if got := mustJSON(t, g.Annotations); strings.Contains(got, "umbrella") {
		t.Errorf("the spec is in an annotation: %s", got)
	}
	objects, installed := configMaps(t, name), chartVersions(t, name)

	update(t, name, func(g *v1alpha1.ApplicationGroup) {
		umbrella := &g.Spec.Applications[0].Spec
		umbrella.Chart.Version = "2.0.0"
		umbrella.Subcharts = append(umbrella.Subcharts, v1alpha1.DAG{Name: "three", Dependencies: []string{"two"}})
		g.Spec.Applications[1].Spec.Chart.Version = "2.0.0"
	})
	awaitCondition(t, name, v1alpha1.ConditionRollbackWorkflowSucceeded, metav1.ConditionTrue)
	if diff := cmp.Diff(installed, chartVersions(t, name)); diff != "" {
		t.Errorf("installed (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(objects, configMaps(t, name)); diff != "" {
		t.Errorf("objects (-before +after):\n%s", diff)
	}
}

// Services that start again while a rollout has failed do not roll it back once more
// (fault 17).
func TestRestartAfterRollback(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "small", "2.0.0", brokenChart())
	const name = "restarted"
	create(t, chain(name, s.URL, 2))
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[1].Spec.Chart.Version = "2.0.0" })
	awaitCondition(t, name, v1alpha1.ConditionRollbackWorkflowSucceeded, metav1.ConditionTrue)
	awaitCondition(t, name, v1alpha1.ConditionStalled, metav1.ConditionTrue)
	before := releases(t, name)
	for _, service := range []string{"intake", "compiler", "watcher", "executor"} {
		for _, p := range processes(t, service) {
			if err := errors.Join(p.Kill(t.Context()), p.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Another group goes the whole way: by then they have seen this one too.
	const other = "restarted-other"
	create(t, chain(other, s.URL, 1))
	awaitReady(t, other, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	still(t, "workflows of a group that was rolled back", func() int { return len(workflows(t, name)) })
	rollbacks := 0
	for _, f := range facts(t, name) {
		if p, ok := f.Data.(events.WorkflowSubmitted); ok && p.WorkflowType == events.WorkflowRollback {
			rollbacks++
		}
	}
	if rollbacks != 1 {
		t.Errorf("%d rollbacks, want 1", rollbacks)
	}
	if diff := cmp.Diff([]string{}, touched(before, releases(t, name))); diff != "" {
		t.Errorf("releases that were touched (-want +got):\n%s", diff)
	}
	once(t, name)
}

// Names that are no names of Kubernetes, in dependencies too (fault 12), and one that is
// too long for Helm (fault 20), of a chart without values (fault 18).
func TestAwkwardNames(t *testing.T) {
	s := serve(t)
	files := configMapChart()
	delete(files, "values.yaml")
	files["templates/configmap.yaml"] = strings.ReplaceAll(files["templates/configmap.yaml"], ".Values.message", ".Chart.Name")
	add(t, s, "small", "1.0.0", files)
	const name = "awkward"
	long := strings.Repeat("long-", 12) + "x" // of 61 characters
	g := chain(name, s.URL, 3)
	for i, dag := range []v1alpha1.DAG{
		{Name: "Gate_Way.v2"}, {Name: long, Dependencies: []string{"Gate_Way.v2"}}, {Name: "Web.Shop", Dependencies: []string{long, "Gate_Way.v2"}},
	} {
		g.Spec.Applications[i].DAG = dag
	}
	create(t, g)
	g = awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	inOrder(t, name, 3)
	live := releases(t, name)
	for key, hr := range live {
		if n := len(hr.GetReleaseName()); n > 53 {
			t.Errorf("the Helm release of %s has %d characters, and Helm allows 53: %s", key, n, hr.GetReleaseName())
		}
	}
	for _, want := range []string{name + "/gate-way-v2", name + "/web-shop"} {
		if _, ok := live[want]; !ok {
			t.Errorf("no release %s among %v", want, names(live))
		}
	}
	for _, a := range g.Status.Applications {
		if a.Version != "1.0.0" || a.Phase != v1alpha1.ReleaseReady {
			t.Errorf("status of application %s: %s", a.Name, mustJSON(t, a))
		}
	}
	deleteInReverse(t, name)
}

// Whoever deletes the CRD deletes every group, each in its own order, and it is gone when
// they are. Made again, it is served as before by the services that were there.
func TestDeleteTheCRD(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	groups := []string{"crd-left", "crd-right"}
	for _, name := range groups {
		create(t, chain(name, s.URL, 3))
	}
	for _, name := range groups {
		awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	key := client.ObjectKey{Name: "applicationgroups." + v1alpha1.GroupVersion.Group}
	if err := env.client.Get(t.Context(), key, crd); err != nil {
		t.Fatal(err)
	}
	if err := env.client.Delete(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	again := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: crd.Name, Labels: crd.Labels, Annotations: crd.Annotations}, Spec: crd.Spec,
	}
	eventually(t, time.Minute, "the CRD to go, and to be made again", func(ctx context.Context) error {
		return env.client.Create(ctx, again.DeepCopy())
	})
	for _, name := range groups {
		nothingLeft(t, name)
		if left := configMaps(t, name); len(left) != 0 {
			t.Errorf("objects of %s left: %v", name, names(left))
		}
		for _, e := range env.recorder.Reversed(name) {
			if e.Overhead < 0 {
				t.Errorf("%s went %s before %s, which depends on it, was gone", e.Child, -e.Overhead, e.Parent)
			}
		}
	}
	eventually(t, time.Minute, "the API server to serve groups again", func(ctx context.Context) error {
		g := chain("crd-again", s.URL, 2)
		if err := env.client.Create(ctx, g); !apierrors.IsAlreadyExists(err) {
			return err
		}
		return nil
	})
	t.Cleanup(func() { remove(t, "crd-again") })
	awaitReady(t, "crd-again", 2*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
}
