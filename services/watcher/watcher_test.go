package watcher

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
)

var rollout = events.Rollout{Group: "shop", UID: "uid-shop", Generation: 1}

const rolloutJSON = `{"group":"shop","uid":"uid-shop","generation":1}`

// heard is what was said, in order.
type heard struct {
	mu  sync.Mutex
	ids []string
	err error
}

func (h *heard) say(_ context.Context, facts ...events.Fact) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return h.err
	}
	for _, f := range facts {
		h.ids = append(h.ids, f.EventID())
	}
	return nil
}

func started(node string) events.Fact {
	return events.New(rollout, events.NodeStarted{NodeRef: events.NodeRef{WorkflowRef: events.WorkflowRef{Workflow: "wf"}, Node: node}})
}

func succeeded(node string) events.Fact {
	return events.New(rollout, events.NodeSucceeded{NodeRef: events.NodeRef{WorkflowRef: events.WorkflowRef{Workflow: "wf"}, Node: node}})
}

func TestMemory(t *testing.T) {
	name := types.NamespacedName{Name: "wf"}
	h := &heard{}
	m := newMemory(h.say)
	tell := func(uid types.UID, facts ...events.Fact) {
		t.Helper()
		if err := m.tell(t.Context(), name, uid, facts); err != nil {
			t.Fatal(err)
		}
	}
	tell("u1", started("a"))
	tell("u1", started("a"), succeeded("a"), started("b"))
	want := []string{started("a").EventID(), succeeded("a").EventID(), started("b").EventID()}
	if diff := cmp.Diff(want, h.ids); diff != "" {
		t.Errorf("each fact is said once, in order (-want +got):\n%s", diff)
	}

	h.err = errors.New("NATS is away")
	if err := m.tell(t.Context(), name, "u1", []events.Fact{succeeded("b")}); err == nil {
		t.Error("what cannot be said is an error")
	}
	h.err, h.ids = nil, nil
	tell("u1", succeeded("b"))
	if diff := cmp.Diff([]string{succeeded("b").EventID()}, h.ids); diff != "" {
		t.Errorf("and is said later (-want +got):\n%s", diff)
	}

	h.err = events.Superseded("generation 2")
	tell("u1", started("c"))
	h.err, h.ids = nil, nil
	tell("u1", started("c"))
	if len(h.ids) != 0 {
		t.Errorf("what the stream knows to be stale is not tried again: got %v", h.ids)
	}

	tell("u2", started("a"))
	if diff := cmp.Diff([]string{started("a").EventID()}, h.ids); diff != "" {
		t.Errorf("another object of that name has its own memory (-want +got):\n%s", diff)
	}
	m.forget(name)
	if len(m.said) != 0 {
		t.Errorf("an object that is gone is forgotten: got %v", m.said)
	}
}

func newClient(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, wfv1.AddToScheme, helmv2.AddToScheme, corev1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(s).WithObjects(objects...).Build()
}

func helmRelease(name string, uid types.UID) *helmv2.HelmRelease {
	return &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: "target", UID: uid,
		Annotations: map[string]string{v1alpha1.AnnotationRollout: rolloutJSON, v1alpha1.AnnotationWorkflow: "wf"},
	}}
}

func TestReleasesThatAreGone(t *testing.T) {
	h := &heard{}
	again := helmRelease("web", "u2") // made again before we looked
	r := &releases{client: newClient(t, again), namespace: "orkestra", memory: newMemory(h.say), gone: &graveyard{}, now: time.Now}
	q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	defer q.ShutDown()
	for _, hr := range []*helmv2.HelmRelease{helmRelease("web", "u1"), helmRelease("db", "u3")} {
		r.handler().Delete(t.Context(), event.DeleteEvent{Object: hr, DeleteStateUnknown: true}, q)
	}
	if q.Len() != 2 {
		t.Fatalf("a release that is gone is looked at: got %d of 2", q.Len())
	}
	h.err = errors.New("NATS is away")
	req := ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "target", Name: "web"}}
	if _, err := r.Reconcile(t.Context(), req); err == nil {
		t.Error("a deletion that cannot be said is an error")
	}
	h.err = nil
	for _, name := range []string{"web", "db"} {
		req.Name = name
		for range 2 {
			if _, err := r.Reconcile(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := []string{
		"release.deleted/uid-shop/1//wf/u1/0",
		"release.deleted/uid-shop/1//wf/u3/0",
	}
	if diff := cmp.Diff(want, h.ids); diff != "" {
		t.Errorf("each deletion is said once, although the API server has the release no more (-want +got):\n%s", diff)
	}
	if len(r.gone.dead) != 0 {
		t.Errorf("and then forgotten: got %v", r.gone.dead)
	}
}

func TestWorkflowsOfAGroupThatIsGone(t *testing.T) {
	wf := &wfv1.Workflow{
		ObjectMeta: metav1.ObjectMeta{Name: "wf", Namespace: "orkestra", UID: "u", Annotations: map[string]string{v1alpha1.AnnotationRollout: rolloutJSON}},
		Status:     wfv1.WorkflowStatus{Phase: wfv1.WorkflowSucceeded, FinishedAt: metav1.Now()},
	}
	group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "uid-shop"}}
	other := group.DeepCopy()
	other.UID = "uid-of-the-next"
	for name, tc := range map[string]struct {
		objects []client.Object
		said    int
	}{
		"the group is there":          {[]client.Object{wf, group}, 1},
		"the group is gone":           {[]client.Object{wf}, 0},
		"the group was made anew":     {[]client.Object{wf, other}, 0},
		"the workflow is gone itself": {[]client.Object{group}, 0},
	} {
		h := &heard{}
		r := &workflows{client: newClient(t, tc.objects...), memory: newMemory(h.say), now: time.Now}
		req := ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "orkestra", Name: "wf"}}
		if _, err := r.Reconcile(t.Context(), req); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(h.ids) != tc.said {
			t.Errorf("%s: said %v, want %d", name, h.ids, tc.said)
		}
	}
}

func TestConcerns(t *testing.T) {
	base := func() *v1alpha1.ApplicationGroup {
		g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "u", Generation: 1}}
		g.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionStaged, Status: metav1.ConditionTrue}}
		return g
	}
	for name, tc := range map[string]struct {
		reason string
		change func(*v1alpha1.ApplicationGroup)
		want   bool
	}{
		"Spec":     {"a new spec is a new rollout", func(g *v1alpha1.ApplicationGroup) { g.Generation = 2 }, true},
		"Deletion": {"so is the end", func(g *v1alpha1.ApplicationGroup) { g.DeletionTimestamp = new(metav1.Now()) }, true},
		"Request": {"and a request", func(g *v1alpha1.ApplicationGroup) {
			g.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: "1"}
		}, true},
		"Condition": {"what others say is summed up", func(g *v1alpha1.ApplicationGroup) { g.Status.Conditions[0].Message = "x" }, true},
		"Unchanged": {"that there was nothing to do is an end", func(g *v1alpha1.ApplicationGroup) { g.Status.LastUnchangedRollout = "u/1" }, true},
		"Ready": {"what another replica of ours wrote is not answered", func(g *v1alpha1.ApplicationGroup) {
			g.Status.Conditions = append(g.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReady})
			g.Status.ObservedGeneration = 1
		}, false},
		"Label": {"labels mean nothing to us", func(g *v1alpha1.ApplicationGroup) { g.Labels = map[string]string{"a": "b"} }, false},
	} {
		after := base()
		tc.change(after)
		if got := concerns(base(), after); got != tc.want {
			t.Errorf("%s: %s: got %v", name, tc.reason, got)
		}
	}
}

func TestAnnounce(t *testing.T) {
	c := newClient(t)
	group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "u", Generation: 1}}
	status := groupstatus.Status{
		Conditions: []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSucceeded, Message: "done", ObservedGeneration: 1,
		}},
		Rollout: &v1alpha1.RolloutStatus{Workflow: "shop-1", Type: "forward", Generation: 1, Phase: "Succeeded", Total: 3},
	}
	for range 2 { // two replicas
		replica := &groups{client: c, now: time.Now}
		if err := replica.announce(t.Context(), group, status); err != nil {
			t.Fatal(err)
		}
	}
	var list corev1.EventList
	if err := c.List(t.Context(), &list, client.InNamespace("default")); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, e := range list.Items {
		got[e.Type+" "+e.Reason+" "+e.Message] = true
	}
	want := map[string]bool{"Normal ReconcileSuccess done": true, "Normal RolloutStarted workflow shop-1, of 3 steps, for generation 1": true}
	if diff := cmp.Diff(want, got); diff != "" || len(list.Items) != 2 {
		t.Errorf("each turn of the group is an event, once: %d events (-want +got):\n%s", len(list.Items), diff)
	}
}

// stale is a client whose informer shows a group as it was.
type stale struct {
	client.Client
	group *v1alpha1.ApplicationGroup
}

func (s stale) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if g, ok := o.(*v1alpha1.ApplicationGroup); ok {
		s.group.DeepCopyInto(g)
		return nil
	}
	return s.Client.Get(ctx, key, o, opts...)
}

func TestStatusIsNotWrittenTwice(t *testing.T) {
	group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "uid-shop", Generation: 1}}
	c := fake.NewClientBuilder().WithScheme(newClient(t).Scheme()).WithObjects(group).WithStatusSubresource(group).Build()
	before := &v1alpha1.ApplicationGroup{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(group), before); err != nil {
		t.Fatal(err)
	}
	behind := stale{Client: c, group: before}
	at := time.Now()
	r := &groups{client: behind, now: func() time.Time { return at }, last: map[string]written{}}
	req := reconcile.Request{NamespacedName: client.ObjectKeyFromObject(group)}
	versions := func() string {
		t.Helper()
		now := &v1alpha1.ApplicationGroup{}
		if err := c.Get(t.Context(), req.NamespacedName, now); err != nil {
			t.Fatal(err)
		}
		return now.ResourceVersion
	}
	look := func() reconcile.Result {
		t.Helper()
		result, err := r.Reconcile(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	wait := look().RequeueAfter
	if now := versions(); now != before.ResourceVersion || wait <= 0 {
		t.Errorf("it is told at once, and not after a while (%s), that the group is worked on", wait)
	}
	at = at.Add(wait)
	look()
	wrote := versions()
	if wrote == before.ResourceVersion {
		t.Fatal("nothing is said of the group")
	}
	result := look()
	if got := versions(); got != wrote {
		t.Errorf("what the informer has yet to show is written again: version %s, then %s", wrote, got)
	}
	if result.RequeueAfter != behindDelay {
		t.Errorf("looks again after %s, want %s", result.RequeueAfter, behindDelay)
	}
	if err := c.Get(t.Context(), req.NamespacedName, before); err != nil {
		t.Fatal(err)
	}
	if result := look(); result.RequeueAfter == behindDelay {
		t.Errorf("when it is shown it is not waited for: after %s", result.RequeueAfter)
	}
}

// The stager has written since the informer showed the group.
func TestAnothersWriteIsNotUndone(t *testing.T) {
	group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "uid-shop", Generation: 1}}
	group.Spec.Applications = []v1alpha1.Application{{DAG: v1alpha1.DAG{Name: "web"}}}
	c := fake.NewClientBuilder().WithScheme(newClient(t).Scheme()).WithObjects(group).WithStatusSubresource(group).Build()
	shown := &v1alpha1.ApplicationGroup{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(group), shown); err != nil {
		t.Fatal(err)
	}
	staged := groupstatus.Status{Charts: []v1alpha1.ApplicationStatus{{Name: "web", ChartStatus: v1alpha1.ChartStatus{Version: "1.0.0", Staged: true}}}}
	if _, err := groupstatus.Apply(t.Context(), c, "stager", shown, staged); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	r := &groups{client: stale{Client: c, group: shown}, now: func() time.Time { return at }, last: map[string]written{}}
	look := func() (time.Duration, v1alpha1.ApplicationStatus) {
		t.Helper()
		result, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(group)})
		if err != nil {
			t.Fatal(err)
		}
		now := &v1alpha1.ApplicationGroup{}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(group), now); err != nil {
			t.Fatal(err)
		}
		return result.RequeueAfter, now.Status.Applications[0]
	}
	wait, _ := look()
	at = at.Add(wait)
	if again, web := look(); again != behindDelay || !web.Staged || web.Phase != "" {
		t.Errorf("a group that was written meanwhile: again after %s, %+v", again, web)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(group), shown); err != nil {
		t.Fatal(err)
	}
	if _, web := look(); !web.Staged || web.Version != "1.0.0" || web.Phase != v1alpha1.ReleasePending {
		t.Errorf("when it is shown both parts are there: %+v", web)
	}
}
