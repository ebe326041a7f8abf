package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/bench/rollout/shape"
)

// record names Helm's records of one release.
type record struct{ namespace, release string }

// track is what was seen of one contender's releases, phase by phase. All times are of
// this process's clock, when a watch showed a thing first.
type track struct {
	// namespace of the releases, and name of the group where there is one.
	namespace string
	graph     shape.Graph
	// byRecords: there are no HelmReleases, a release is ready when Helm's record says
	// that it is deployed.
	byRecords bool
	// names of releases by their records.
	names map[record]string

	// changed has a token when something was seen.
	changed chan struct{}

	mu sync.Mutex
	// began is when the phase did.
	began time.Time
	// What was seen of a release in this phase, by its name.
	created, decided, ready, helm, deployed map[string]time.Time
	groupReady                              time.Time
	// generations are what was seen last, and floor what that was when the phase began:
	// a release is ready in a phase with a generation of it.
	generations, floor map[string]int64
	// group and groupFloor are the same of the group: its generation and its request.
	group, groupFloor string
	// secrets of Helm that were seen: the next one is another action.
	secrets map[string]bool
	actions int
}

func newTrack(namespace string, g shape.Graph, byRecords bool) *track {
	t := &track{namespace: namespace, graph: g, byRecords: byRecords, changed: make(chan struct{}, 1),
		names: map[record]string{}, generations: map[string]int64{}, secrets: map[string]bool{}}
	for _, r := range g.Releases {
		t.names[record{namespace, r.Name}] = r.Name
		if r.Subchart != "" { // the pieces of a chart share the release's name, and keep their records apart
			t.names[record{v1alpha1.StorageNamespace(namespace, r.Subchart), shape.UmbrellaName}] = r.Name
		}
	}
	t.phase()
	return t
}

// phase begins one: from here on everything is seen anew.
func (t *track) phase() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began = time.Now()
	t.created, t.decided, t.ready = map[string]time.Time{}, map[string]time.Time{}, map[string]time.Time{}
	t.helm, t.deployed = map[string]time.Time{}, map[string]time.Time{}
	t.floor, t.groupFloor = maps.Clone(t.generations), t.group
	t.groupReady, t.actions = time.Time{}, 0
}

func (t *track) signal() {
	select {
	case t.changed <- struct{}{}:
	default: // whoever waits has been told already
	}
}

// seeRelease takes in a HelmRelease.
func (t *track) seeRelease(u *unstructured.Unstructured, now time.Time) {
	name := u.GetName()
	t.mu.Lock()
	if _, known := t.generations[name]; !known {
		t.created[name] = now
		// Only Orkestra says when it decided.
		if at, err := time.Parse(time.RFC3339Nano, u.GetAnnotations()[v1alpha1.AnnotationStartedAt]); err == nil {
			t.decided[name] = at
		}
	}
	t.generations[name] = u.GetGeneration()
	if t.ready[name].IsZero() && u.GetGeneration() > t.floor[name] && isReady(u) {
		t.ready[name] = now
	}
	t.mu.Unlock()
	t.signal()
}

// seeRecord takes in one of Helm's Secrets.
func (t *track) seeRecord(name, secret, status string, now time.Time) {
	t.mu.Lock()
	if !t.secrets[secret] {
		t.secrets[secret] = true
		t.actions++
		t.helm[name] = now
	}
	if status == "deployed" && t.deployed[name].IsZero() && !t.helm[name].IsZero() {
		t.deployed[name] = now
		if t.byRecords {
			t.ready[name] = now
		}
	}
	t.mu.Unlock()
	t.signal()
}

// seeGroup takes in the ApplicationGroup.
func (t *track) seeGroup(u *unstructured.Unstructured, now time.Time) {
	requested := u.GetAnnotations()[v1alpha1.AnnotationRequestedAt]
	handled, _, errHandled := unstructured.NestedString(u.Object, "status", "lastHandledReconcileAt")
	observed, _, errObserved := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	if errHandled != nil || errObserved != nil {
		return // not what the CRD says: it never gets ready
	}
	t.mu.Lock()
	t.group = fmt.Sprintf("%d/%s", u.GetGeneration(), requested)
	if t.groupReady.IsZero() && t.group != t.groupFloor && observed == u.GetGeneration() && handled == requested && isReady(u) {
		t.groupReady = now
	}
	t.mu.Unlock()
	t.signal()
}

// isReady tells whether an object is Ready with the generation that it has.
func isReady(u *unstructured.Unstructured) bool {
	conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	if err != nil {
		return false
	}
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == "Ready" {
			observed, ok := m["observedGeneration"].(int64)
			return m["status"] == "True" && ok && observed == u.GetGeneration()
		}
	}
	return false
}

// await waits until done is content with what was seen. The lock is held while it looks.
func (t *track) await(ctx context.Context, done func() bool) error {
	for {
		t.mu.Lock()
		ok := done()
		t.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; %s", context.Cause(ctx), t.missing())
		case <-t.changed:
		}
	}
}

// awaitReady waits until releases are ready in this phase.
func (t *track) awaitReady(ctx context.Context, names ...string) error {
	return t.await(ctx, func() bool {
		return !slices.ContainsFunc(names, func(n string) bool { return t.ready[n].IsZero() })
	})
}

func (t *track) awaitGroup(ctx context.Context) error {
	return t.await(ctx, func() bool { return !t.groupReady.IsZero() })
}

// missing says what was not seen ready, for an error.
func (t *track) missing() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, r := range t.graph.Releases {
		if t.ready[r.Name].IsZero() && len(out) < 5 {
			out = append(out, r.Name)
		}
	}
	return fmt.Sprintf("%d of %d releases are ready in %s, not %s", len(t.ready), len(t.graph.Releases), t.namespace, strings.Join(out, ", "))
}

var errUnseen = errors.New("a release was not seen")

// readyNames are those that are ready in this phase.
func (t *track) readyNames() map[string]bool {
	out := map[string]bool{}
	for name := range t.ready {
		out[name] = true
	}
	return out
}

// overheads are, for each release that waits for others, when it was begun minus when
// the last of its parents was ready.
func (t *track) overheads(begun map[string]time.Time) ([]float64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []float64
	for _, r := range t.graph.Releases {
		if len(r.Parents) == 0 {
			continue
		}
		last := t.lastReady(r.Parents)
		if last == "" {
			return nil, fmt.Errorf("%w: one of %s", errUnseen, strings.Join(r.Parents, ", "))
		}
		if begun[r.Name].IsZero() {
			return nil, fmt.Errorf("%w: %s", errUnseen, r.Name)
		}
		out = append(out, begun[r.Name].Sub(t.ready[last]).Seconds())
	}
	return out, nil
}

// lastReady is that of the releases that was ready last; empty where there are none, or not
// all of them are.
func (t *track) lastReady(names []string) (last string) {
	for _, name := range names {
		if t.ready[name].IsZero() {
			return ""
		}
		if last == "" || t.ready[name].After(t.ready[last]) {
			last = name
		}
	}
	return last
}

// since is the time from the beginning of the phase to the earliest, or the latest, of
// some times.
func (t *track) since(times map[string]time.Time, latest bool) float64 {
	var at time.Time
	for _, v := range times {
		if at.IsZero() || v.After(at) == latest {
			at = v
		}
	}
	if at.IsZero() {
		return 0
	}
	return at.Sub(t.began).Seconds()
}

// allNames of the graph.
func (t *track) allNames() []string {
	var out []string
	for _, r := range t.graph.Releases {
		out = append(out, r.Name)
	}
	return out
}
