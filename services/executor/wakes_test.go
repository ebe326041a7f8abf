package executor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/pkg/events"
	"orkestra.dev/services/executor/execute"
)

// looks records what was looked at, and with which news.
type looks struct {
	mu    sync.Mutex
	began []string
	now   int
	most  int
}

func (l *looks) look(_ context.Context, w wake) error {
	l.mu.Lock()
	var told []string
	for _, n := range w.news {
		told = append(told, n.key.Name)
	}
	slices.Sort(told)
	l.began = append(l.began, w.workflow+":"+strings.Join(told, ","))
	l.now++
	l.most = max(l.most, l.now)
	l.mu.Unlock()
	time.Sleep(time.Second)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now--
	return nil
}

func about(workflow, release string) wake {
	return wake{workflow: workflow, news: []news{{key: execute.Key{Name: release}}}}
}

func TestWakesShareALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &looks{}
		ws := newWakes(l.look)
		var all sync.WaitGroup
		wake := func(w wake) {
			all.Go(func() {
				if err := ws.do(t.Context(), w); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		wake(about("a", "one"))
		wake(about("a", "two"))
		wake(about("a", "three"))
		begun := time.Now()
		all.Wait()
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("whoever waits is answered when the look that began after is over: got %s, want 2s", took)
		}
		if diff := cmp.Diff([]string{"a:one", "a:three,two"}, l.began); diff != "" {
			t.Errorf("what arrives during a look shares the next, with all that was told (-want +got):\n%s", diff)
		}
		if l.most != 1 {
			t.Errorf("a workflow is looked at once at a time: got %d", l.most)
		}
		synctest.Wait()
		ws.mu.Lock()
		defer ws.mu.Unlock()
		if len(ws.busy) != 0 {
			t.Errorf("a workflow that nobody asks for is forgotten: got %v", ws.busy)
		}
	})
}

func TestWakesOfWorkflowsRunBesideEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &looks{}
		ws := newWakes(l.look)
		var all sync.WaitGroup
		for _, name := range []string{"a", "b", "c"} {
			all.Go(func() {
				if err := ws.do(t.Context(), about(name, "x")); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if l.most != 3 {
			t.Errorf("one workflow does not wait for another: got %d at a time, want 3", l.most)
		}
	})
}

func TestWakesOutliveWhoeverAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &looks{}
		ws := newWakes(l.look)
		go func() {
			if err := ws.do(t.Context(), about("a", "one")); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() { gone <- ws.do(ctx, about("a", "two")) }()
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("whoever does not wait any more is told so: got %v", err)
		}
		if err := ws.do(t.Context(), about("a", "three")); err != nil {
			t.Errorf("a look that others wait for takes place without who asked first: %v", err)
		}
		if diff := cmp.Diff([]string{"a:one", "a:three,two"}, l.began); diff != "" {
			t.Errorf("the looks (-want +got):\n%s", diff)
		}
		synctest.Wait()
	})
}

func TestWakesSurviveAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		ws := newWakes(func(context.Context, wake) error {
			if calls++; calls == 2 {
				panic("boom")
			}
			time.Sleep(time.Second)
			return nil
		})
		go func() {
			if err := ws.do(t.Context(), about("a", "one")); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if err := ws.do(t.Context(), about("a", "two")); err == nil || !strings.Contains(err.Error(), "panic: boom") {
			t.Errorf("a panic is a failed attempt: got %v", err)
		}
		synctest.Wait()
		if err := ws.do(t.Context(), about("a", "three")); err != nil {
			t.Errorf("and the next look takes place: %v", err)
		}
	})
}

func TestWakeOf(t *testing.T) {
	ref := events.ReleaseRef{Workflow: "wf", Namespace: "ns", Name: "hr", ReleaseUID: "u", ReleaseGeneration: 3}
	key := execute.Key{Namespace: "ns", Name: "hr"}
	node := events.NodeRef{WorkflowRef: events.WorkflowRef{Workflow: "wf"}, Node: "n", Task: "web"}
	for name, tc := range map[string]struct {
		reason string
		data   events.Payload
		want   wake
		ok     bool
	}{
		"WorkflowSubmitted": {
			reason: "what depends on nothing is begun at once",
			data:   events.WorkflowSubmitted{WorkflowRef: node.WorkflowRef},
			want:   wake{workflow: "wf"}, ok: true,
		},
		"NodeStarted": {
			reason: "a node that waits wants its release, and is to be seen in the workflow",
			data:   events.NodeStarted{NodeRef: node},
			want:   wake{workflow: "wf", task: "web", activated: []string{"web"}}, ok: true,
		},
		"ReleaseReady": {
			reason: "a release that is done settles its node",
			data:   events.ReleaseReady{ReleaseRef: ref},
			want:   wake{workflow: "wf", news: []news{{key: key, uid: "u", generation: 3}}}, ok: true,
		},
		"ReleaseExpired": {
			reason: "the time being up says nothing of what the release is now",
			data:   events.ReleaseExpired{ReleaseRef: ref},
			want:   wake{workflow: "wf", news: []news{{key: key, uid: "u", generation: 3, timed: true}}}, ok: true,
		},
		"ReleaseDeleted": {
			reason: "a release that is gone settles the node that deletes it",
			data:   events.ReleaseDeleted{ReleaseRef: ref},
			want:   wake{workflow: "wf", news: []news{{key: key, uid: "u", generation: 3, deleted: true}}}, ok: true,
		},
		"NodeSucceeded": {
			reason: "what we did ourselves is no news",
			data:   events.NodeSucceeded{NodeRef: node},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := wakeOf(events.Fact{Rollout: events.Rollout{Group: "shop"}, Data: tc.data})
			if ok != tc.ok || (ok && cmp.Diff(tc.want, got, cmp.AllowUnexported(wake{}, news{})) != "") {
				t.Errorf("%s: got %+v, %v; want %+v, %v", tc.reason, got, ok, tc.want, tc.ok)
			}
		})
	}
}

func TestNewsThatTheInformerHas(t *testing.T) {
	ready := func(uid types.UID, generation int64) *helmv2.HelmRelease {
		return release("web", func(hr *helmv2.HelmRelease) {
			hr.UID, hr.Generation = uid, generation
			makeReady(hr)
		})
	}
	progressing := release("web", func(hr *helmv2.HelmRelease) { hr.UID, hr.Generation = "u", 3 })
	for name, tc := range map[string]struct {
		news   news
		cached *helmv2.HelmRelease
		want   bool
	}{
		"it has it":                      {news{uid: "u", generation: 3}, ready("u", 3), true},
		"it has newer":                   {news{uid: "u", generation: 3}, ready("u", 4), true},
		"it has an older generation":     {news{uid: "u", generation: 3}, ready("u", 2), false},
		"it has it in progress":          {news{uid: "u", generation: 3}, progressing, false},
		"it has another release":         {news{uid: "u", generation: 3}, ready("v", 3), false},
		"it has not seen it":             {news{uid: "u", generation: 3}, nil, false},
		"it has not seen it go":          {news{uid: "u", deleted: true}, ready("u", 3), false},
		"it has seen it go":              {news{uid: "u", deleted: true}, nil, true},
		"it has the one that came after": {news{uid: "u", deleted: true}, ready("v", 1), true},
		"it is a matter of time":         {news{uid: "u", generation: 3, timed: true}, ready("u", 3), false},
	} {
		if got := tc.news.old(tc.cached); got != tc.want {
			t.Errorf("%s: read live is %v, want %v", name, !got, !tc.want)
		}
	}
}
