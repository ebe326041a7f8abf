package executor

import (
	"context"
	"testing"
	"time"

	"github.com/argoproj/argo-workflows/v3/pkg/apis/workflow"
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
)

// heard is a cluster whose executor has an informer that holds the workflow as it is now,
// and stays as it is; reads counts how often the workflow is read live.
func heard(t *testing.T, tasks []string, objects ...client.Object) (c *cluster, reads *liveReads) {
	t.Helper()
	reads = &liveReads{}
	c = newCluster(t, plan.Install, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			switch o := o.(type) {
			case *wfv1.Workflow:
				reads.whole++
			case *metav1.PartialObjectMetadata:
				if o.Kind == workflow.WorkflowKind {
					reads.version++
				}
			}
			return c.Get(ctx, key, o, opts...)
		},
	}, tasks, objects...)
	c.listen()
	*reads = liveReads{}
	return c, reads
}

// liveReads are reads of the workflow, and of no more than which version of it there is.
type liveReads struct{ whole, version int }

func (c *cluster) workflow() *wfv1.Workflow {
	c.t.Helper()
	wf := &wfv1.Workflow{}
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: namespace, Name: wfName}, wf); err != nil {
		c.t.Fatal(err)
	}
	return wf
}

// listen has the informer see the workflow as it is now.
func (c *cluster) listen() {
	c.t.Helper()
	informer := fake.NewClientBuilder().WithScheme(c.Scheme()).WithObjects(c.workflow()).Build()
	c.writer.reader.recent = newRecent(informer, namespace, time.Now)
}

func (c *cluster) lookAt(w wake) {
	c.t.Helper()
	w.workflow = wfName
	if err := c.writer.look(c.t.Context(), w); err != nil {
		c.t.Fatal(err)
	}
}

func TestMostLooksReadNothingLive(t *testing.T) {
	c, reads := heard(t, []string{"web", "db"})
	c.mustLook()
	if *reads != (liveReads{version: 1}) || len(c.there()) != 2 {
		t.Fatalf("before releases are begun it is asked whether the workflow is as it was heard of, and no more than that: %+v, begun %v", *reads, c.there())
	}
	*reads = liveReads{}
	c.mustLook()
	c.lookAt(wake{activated: []string{"web"}})
	if *reads != (liveReads{}) {
		t.Errorf("a look that finds nothing to do reads the workflow: %+v", *reads)
	}
	c.lookAt(wake{activated: []string{"a-task-that-the-informer-has-not-seen"}})
	c.lookAt(wake{live: true})
	if *reads != (liveReads{whole: 2}) {
		t.Errorf("what the informer has not heard of, and what is asked for, is read live: %+v", *reads)
	}
	*reads = liveReads{}
	c.lookAt(wake{live: true, version: c.workflow().ResourceVersion})
	*reads = liveReads{whole: reads.whole - 1} // ours
	if *reads != (liveReads{}) {
		t.Errorf("what was heard of is as it is, and is read: %+v", *reads)
	}
	c.lookAt(wake{live: true, version: "another"})
	if *reads != (liveReads{whole: 1}) {
		t.Errorf("what was heard of is not as it is, and is not read: %+v", *reads)
	}
}

func TestJoinedWakes(t *testing.T) {
	plain, live, as1, as2 := wake{}, wake{live: true}, wake{live: true, version: "1"}, wake{live: true, version: "2"}
	for name, tc := range map[string]struct {
		first, second wake
		version       string
	}{
		"one knows the version":             {plain, as1, "1"},
		"one knows the version, and began":  {as1, plain, "1"},
		"both know the same":                {as1, as1, "1"},
		"they know different ones":          {as1, as2, ""},
		"one wants it read":                 {as1, live, ""},
		"one wants it read, and began":      {live, as1, ""},
		"nobody asks for the newest of all": {plain, plain, ""},
	} {
		got := tc.first
		got.join(tc.second)
		if got.version != tc.version || got.live != (tc.first.live || tc.second.live) {
			t.Errorf("%s: live %v, version %q, want %q", name, got.live, got.version, tc.version)
		}
	}
}

// Before something is begun, the workflow is taken as it is, and not as it was heard of.
func TestAnOutdatedWorkflowIsReadBeforeReleasesAreBegun(t *testing.T) {
	c, reads := heard(t, []string{"web"})
	wf := c.workflow()
	wf.Annotations["example.com/changed"] = "yes"
	if err := c.Update(t.Context(), wf); err != nil {
		t.Fatal(err)
	}
	*reads = liveReads{}
	c.mustLook()
	if *reads != (liveReads{version: 1, whole: 1}) || len(c.there()) != 1 {
		t.Errorf("reads %+v, begun %v", *reads, c.there())
	}
}

func TestStopComesBeforeWhatTheInformerShows(t *testing.T) {
	c, _ := heard(t, []string{"web"})
	wf := c.workflow()
	wf.Spec.Shutdown = wfv1.ShutdownStrategyTerminate
	if err := c.Update(t.Context(), wf); err != nil {
		t.Fatal(err)
	}
	c.mustLook()
	if got := c.there(); len(got) > 0 {
		t.Errorf("a workflow was stopped, which the informer does not show, and %v begun", got)
	}
}

func TestNewerGenerationComesBeforeWhatTheInformerShows(t *testing.T) {
	c, _ := heard(t, []string{"web"})
	if err := newerGeneration(t.Context(), c, true); err != nil {
		t.Fatal(err)
	}
	if err := c.look(); !events.IsSuperseded(err) {
		t.Errorf("the older generation is superseded: got %v", err)
	}
	if got := c.release("web").Spec.ReleaseName; got != "newer" {
		t.Errorf("what the newer generation made stays: got %q", got)
	}
}

// What has come about by the time that it is asked whether the workflow is as it was heard of comes first, though
// the workflow is.
func TestNewsComesBeforeWhatWasDecided(t *testing.T) {
	web := []plan.Node{{Task: "web", Action: plan.Install, Release: release("web")}}
	group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	for name, tc := range map[string]struct {
		nodes      []plan.Node
		news       func(context.Context, client.Client) error
		superseded bool
	}{
		"newer generation": {web, func(ctx context.Context, c client.Client) error {
			return c.Patch(ctx, group, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"generation":2}}`)))
		}, true},
		"no group": {web, func(ctx context.Context, c client.Client) error { return c.Delete(ctx, group) }, true},
		"a Job": {[]plan.Node{jobNode("migrate")}, func(ctx context.Context, c client.Client) error {
			job := jobNode("migrate").Job.DeepCopy()
			job.Labels = map[string]string{v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelOwner: "shop"}
			job.Annotations = map[string]string{v1alpha1.AnnotationWorkflow: wfName, v1alpha1.AnnotationWorkflowUID: "uid-wf"}
			return c.Create(ctx, job)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			armed, begun := false, 0
			c := newClusterOf(t, interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
					if m, ok := o.(*metav1.PartialObjectMetadata); ok && m.Kind == workflow.WorkflowKind && armed {
						armed = false
						if err := tc.news(ctx, c); err != nil {
							return err
						}
					}
					return c.Get(ctx, key, o, opts...)
				},
				Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
					begun++
					return c.Create(ctx, o, opts...)
				},
			}, tc.nodes)
			c.listen()
			armed = true
			err := c.look()
			if armed || begun > 0 {
				t.Errorf("it was not asked (%v), or something was begun in spite of the answer: %d", armed, begun)
			}
			if events.IsSuperseded(err) != tc.superseded {
				t.Errorf("superseded: %v, want %v", err, tc.superseded)
			}
		})
	}
}

// What was settled is known before the informer shows it.
func TestOwnSettlementIsNotForgotten(t *testing.T) {
	c, reads := heard(t, []string{"web", "db"})
	c.mustLook()
	c.becomesReady("web")
	c.mustLook()
	want := map[string]string{"web": "Succeeded", "db": "Running"}
	if diff := cmp.Diff(want, c.nodes()); diff != "" {
		t.Fatalf("nodes (-want +got):\n%s", diff)
	}
	version := c.workflow().ResourceVersion
	*reads = liveReads{}
	c.mustLook()
	if got := c.workflow().ResourceVersion; got != version || *reads != (liveReads{whole: 1}) { // ours
		t.Errorf("a node is settled once: version %s became %s, with %+v", version, got, *reads)
	}
	c.becomesReady("db")
	c.mustLook()
	want["db"] = "Succeeded"
	if diff := cmp.Diff(want, c.nodes()); diff != "" {
		t.Errorf("and the next one upon it (-want +got):\n%s", diff)
	}
}

// A release that was just begun is not begun again by the next look, which the informer has
// not shown it yet.
func TestOwnReleaseIsNotForgotten(t *testing.T) {
	c, _ := heard(t, []string{"web"})
	writes := 0
	c.writer.client = interceptor.NewClient(c, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if _, ok := o.(*helmv2.HelmRelease); ok {
				writes++
			}
			return c.Create(ctx, o, opts...)
		},
	})
	clock := time.Now()
	c.writer.reader.recent.releases.now = func() time.Time { return clock }
	deaf := fake.NewClientBuilder().WithScheme(c.Scheme()).WithObjects(&v1alpha1.ApplicationGroup{
		ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "uid-shop", Generation: 1},
	}).Build()
	c.writer.reader.cached = deaf
	c.mustLook()
	c.mustLook()
	if writes != 1 {
		t.Errorf("the release is written %d times", writes)
	}
	if err := c.Delete(t.Context(), c.release("web")); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(2 * overdue)
	c.mustLook()
	if writes != 2 {
		t.Errorf("a release that an informer does not come to show is gone, and was written %d times", writes)
	}
}

// A release that this process has deleted is gone when it is told, or its informer shows, that it is: what it noted of the
// deletion is no more than what its informer may not show yet.
func TestAReleaseThatIsGoneIsForgotten(t *testing.T) {
	for name, hear := range map[string]func(*cluster, *helmv2.HelmRelease) wake{
		"told": func(_ *cluster, hr *helmv2.HelmRelease) wake {
			return wake{news: []news{{key: client.ObjectKeyFromObject(hr), uid: hr.UID, deleted: true}}}
		},
		"shown": func(c *cluster, hr *helmv2.HelmRelease) wake {
			informers := &informertest.FakeInformers{Scheme: c.Scheme()}
			if err := c.writer.reader.recent.watch(t.Context(), informers); err != nil {
				t.Fatal(err)
			}
			informer, err := informers.FakeInformerFor(t.Context(), hr)
			if err != nil {
				t.Fatal(err)
			}
			informer.Delete(hr)
			return wake{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			keep := release("web", func(hr *helmv2.HelmRelease) { hr.UID, hr.Finalizers = "uid-web", []string{helmv2.HelmReleaseFinalizer} })
			c := newCluster(t, plan.Delete, interceptor.Funcs{}, []string{"web"}, keep)
			c.listen()
			c.mustLook()
			hr := c.release("web")
			hr.Finalizers = nil
			if err := c.Update(t.Context(), hr); err != nil {
				t.Fatal(err)
			}
			c.lookAt(hear(c, hr))
			if phase := c.nodes()["web"]; phase != string(wfv1.NodeSucceeded) {
				t.Errorf("its node is %s", phase)
			}
		})
	}
}

// A release of an earlier group of the same name, that this process has deleted a moment ago, is not there.
func TestReleaseOfAnEarlierGroupIsForgotten(t *testing.T) {
	c, _ := heard(t, []string{"web"})
	c.writer.reader.recent.wroteRelease(&helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{
		Namespace: "target", Name: "web", UID: "uid-before", ResourceVersion: "999", DeletionTimestamp: &metav1.Time{Time: time.Now()},
		Labels:      map[string]string{v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelOwner: "shop"},
		Annotations: map[string]string{v1alpha1.AnnotationGroupUID: "uid-of-an-earlier-shop"},
	}})
	c.mustLook()
	if hr := c.release("web"); hr == nil || hr.Annotations[v1alpha1.AnnotationGroupUID] != "uid-shop" {
		t.Errorf("the release of the group is not written: %v", hr)
	}
	if phase := c.nodes()["web"]; phase != string(wfv1.NodeRunning) {
		t.Errorf("its node is %s", phase)
	}
}

// What the informer shows is believed as soon as it is as new.
func TestInformerCatchesUp(t *testing.T) {
	at := func(version string) *helmv2.HelmRelease {
		return release("web", func(hr *helmv2.HelmRelease) { hr.ResourceVersion = version })
	}
	key := client.ObjectKeyFromObject(at("1"))
	for name, tc := range map[string]struct {
		cached *helmv2.HelmRelease
		want   string
	}{
		"it has none":  {nil, "10"},
		"it is behind": {at("9"), "10"},
		"it has it":    {at("10"), ""},
		"it is ahead":  {at("11"), ""},
	} {
		w := newWritten[*helmv2.HelmRelease](time.Now)
		w.note(at("10"))
		later, err := w.later(key, tc.cached)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if later != nil {
			got = later.ResourceVersion
		}
		if got != tc.want || (tc.want == "") != (len(w.keys()) == 0) {
			t.Errorf("%s: got version %q, want %q, and %d are remembered", name, got, tc.want, len(w.keys()))
		}
	}
}

// Of a workflow that has ended nobody asks again: it is forgotten all the same.
func TestWhatIsOverdueIsForgotten(t *testing.T) {
	clock := time.Now()
	w := newWritten[*wfv1.Workflow](func() time.Time { return clock })
	for _, name := range []string{"ended", "running"} {
		w.note(&wfv1.Workflow{ObjectMeta: metav1.ObjectMeta{Name: name}})
		clock = clock.Add(2 * overdue)
	}
	if diff := cmp.Diff([]client.ObjectKey{{Name: "running"}}, w.keys()); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}
}
