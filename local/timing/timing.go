// Package timing measures a rollout from outside, as any client sees it: when each
// HelmRelease was created, ready and gone. Kubernetes writes its own times in whole
// seconds, which is too coarse for what is measured here, so the clock is that of
// a watch, and all times are of one process.
package timing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

var helmReleases = schema.GroupVersionResource{Group: "helm.toolkit.fluxcd.io", Version: "v2", Resource: "helmreleases"}

const prefix = "orkestra.azure.microsoft.com/"

// Release is what was seen of one HelmRelease; a time is zero until it was seen.
type Release struct {
	UID, Namespace, Name string
	// Group, Application and Task place it in the graph.
	Group, Application, Task string
	// Dependencies are tasks of the same application, ApplicationDependencies are
	// applications.
	Dependencies, ApplicationDependencies []string
	// Created is when the watch showed it first, Ready when it showed Ready=True
	// first for the newest generation, Deleted when it went.
	Created, Ready, Deleted time.Time

	generation int64
	spans      []span // one for each generation that was seen
}

// Edge is the time between a parent, the last of them, and its child.
type Edge struct {
	Parent, Child string
	// ChildUID tells the child from one of the same name that was there before.
	ChildUID string
	// Overhead is child created minus last parent ready; on the way down, begun by
	// the children, it is gone minus last dependent gone.
	Overhead time.Duration
}

// Recorder watches the HelmReleases that Orkestra makes.
type Recorder struct {
	mu       sync.Mutex
	releases map[string]*Release // by UID
	// asked is when a list was asked for of which nothing has been seen, listed when the first of one was seen.
	asked, listed time.Time
}

const (
	// listComes is within what time the first of a list comes after it was asked for: an API server that has just begun has
	// to read all itself first.
	listComes = 30 * time.Second
	// listLasts is within what time all of a list comes after the first.
	listLasts = time.Second
)

// Record starts to watch; it returns when what is there has been seen. The watch
// ends with ctx.
func Record(ctx context.Context, config *rest.Config) (*Recorder, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	r := &Recorder{releases: map[string]*Release{}}
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, metav1.NamespaceAll, r.request)
	informer := factory.ForResource(helmReleases).Informer()
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { r.see(o, false) },
		UpdateFunc: func(_, o any) { r.see(o, false) },
		DeleteFunc: func(o any) { r.see(o, true) },
	})
	if err != nil {
		return nil, fmt.Errorf("watching HelmReleases: %w", err)
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil, fmt.Errorf("watching HelmReleases: %w", context.Cause(ctx))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked, r.listed = time.Time{}, time.Time{} // of what was there nobody asks for the order
	return r, nil
}

// request hears of each request of the informer's: those for a list, by themselves or at the beginning of a watch, come
// when the watch was lost.
func (r *Recorder) request(o *metav1.ListOptions) {
	if o.SendInitialEvents != nil || !o.AllowWatchBookmarks {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.asked = time.Now()
	}
}

// clock is when what is seen now was seen. All of a list is seen at one time: it comes in no order that says what was first.
func (r *Recorder) clock(now time.Time) time.Time {
	if !r.asked.IsZero() && now.Sub(r.asked) < listComes {
		r.listed = now
	}
	r.asked = time.Time{}
	if now.Sub(r.listed) < listLasts {
		return r.listed
	}
	return now
}

func (r *Recorder) see(o any, deleted bool) {
	if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = unknown.Obj
	}
	u, ok := o.(*unstructured.Unstructured)
	if !ok || u.GetLabels()[prefix+"heritage"] != "orkestra" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock(time.Now())
	rel := r.releases[string(u.GetUID())]
	if rel == nil {
		rel = &Release{UID: string(u.GetUID()), Namespace: u.GetNamespace(), Name: u.GetName(), Created: now}
		r.releases[rel.UID] = rel
	}
	a := u.GetAnnotations()
	rel.Group = u.GetLabels()[prefix+"owner"]
	rel.Application = u.GetLabels()[prefix+"application"]
	rel.Task = a[prefix+"task"]
	rel.Dependencies = list(a[prefix+"dependencies"])
	rel.ApplicationDependencies = list(a[prefix+"application-dependencies"])
	if deleted {
		rel.Deleted = now
		return
	}
	if g := u.GetGeneration(); g != rel.generation {
		rel.generation, rel.Ready = g, time.Time{}
		rel.spans = append(rel.spans, span{since: now})
	}
	if rel.Ready.IsZero() && ready(u) {
		rel.Ready = now
		rel.spans[len(rel.spans)-1].ready = now
	}
}

// span is the time of one generation of a release.
type span struct{ since, ready time.Time }

// readyFor is when the release got ready with the generation that it had at a moment;
// zero where it did not.
func (r Release) readyFor(at time.Time) time.Time {
	ready := r.Ready
	for i, s := range r.spans {
		if i == 0 || !s.since.After(at) {
			ready = s.ready
		}
	}
	return ready
}

// ready says whether a release is, as its conditions say, or as only Helm's record says: what helm-controller could not write
// down, because the API server was away, it writes with its next look, minutes later, and nobody waits for that.
func ready(u *unstructured.Unstructured) bool {
	conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	if err != nil {
		return false
	}
	told := false
	for _, c := range conditions {
		m, ok := c.(map[string]any)
		if !ok {
			continue
		}
		observed, ok := m["observedGeneration"].(int64)
		if m["type"] == "Ready" && m["status"] == "True" && ok && observed == u.GetGeneration() {
			return true
		}
		told = told || m["type"] == "Released"
	}
	return !told && recorded(u)
}

// recorded says whether the newest of Helm's records is of this generation, and deployed.
func recorded(u *unstructured.Unstructured) bool {
	for _, field := range []string{"observedGeneration", "lastAttemptedGeneration"} {
		if n, _, err := unstructured.NestedInt64(u.Object, "status", field); err != nil || n != u.GetGeneration() {
			return false
		}
	}
	history, _, err := unstructured.NestedSlice(u.Object, "status", "history")
	if err != nil || len(history) == 0 {
		return false
	}
	latest, ok := history[0].(map[string]any)
	return ok && latest["status"] == "deployed"
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// Releases of a group, in the order of their creation.
func (r *Recorder) Releases(group string) []Release {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Release
	for _, rel := range r.releases {
		if rel.Group == group {
			seen := *rel
			seen.spans = slices.Clone(rel.spans)
			out = append(out, seen)
		}
	}
	slices.SortFunc(out, func(a, b Release) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

// Edges of a group: for each release that has parents, the overhead over the last
// of them to be ready, with the generation that it had then. A release whose parents were not seen ready has none.
func (r *Recorder) Edges(group string) []Edge { return edges(r.Releases(group)) }

func edges(releases []Release) []Edge {
	var out []Edge
	for _, child := range releases {
		var last Release
		var lastReady time.Time
		complete, parents := true, 0
		for _, p := range releases {
			if p.UID == child.UID || !isParent(p, child) || !overlap(p, child) {
				continue
			}
			parents++
			ready := p.readyFor(child.Created)
			complete = complete && !ready.IsZero()
			if ready.After(lastReady) {
				last, lastReady = p, ready
			}
		}
		if parents > 0 && complete {
			out = append(out, Edge{Parent: last.Name, Child: child.Name, ChildUID: child.UID, Overhead: child.Created.Sub(lastReady)})
		}
	}
	return out
}

// Reversed gives the edges of the way down: for each release that is gone, and on
// which others depended, the time from the last of those going to its own going. An
// edge with a negative overhead went out of order.
func (r *Recorder) Reversed(group string) []Edge {
	releases := r.Releases(group)
	var out []Edge
	for _, parent := range releases {
		if parent.Deleted.IsZero() {
			continue
		}
		var last Release
		for _, child := range releases {
			if child.UID == parent.UID || child.Deleted.IsZero() || !isParent(parent, child) || !overlap(parent, child) {
				continue
			}
			if child.Deleted.After(last.Deleted) {
				last = child
			}
		}
		if !last.Deleted.IsZero() {
			out = append(out, Edge{Parent: last.Name, Child: parent.Name, ChildUID: parent.UID, Overhead: parent.Deleted.Sub(last.Deleted)})
		}
	}
	return out
}

// overlap tells releases of one life of the group from those of another.
func overlap(a, b Release) bool {
	return (a.Deleted.IsZero() || b.Created.Before(a.Deleted)) && (b.Deleted.IsZero() || a.Created.Before(b.Deleted))
}

func isParent(p, child Release) bool {
	if p.Application == child.Application {
		return slices.Contains(child.Dependencies, bareTask(p))
	}
	return slices.Contains(child.ApplicationDependencies, p.Application)
}

// bareTask is the name of the release's task inside its application.
func bareTask(r Release) string {
	return strings.TrimPrefix(r.Task, r.Application+".")
}

// Percentile of the overheads, p in 0..100 by nearest rank; zero without edges.
func Percentile(edges []Edge, p float64) time.Duration {
	if len(edges) == 0 {
		return 0
	}
	d := make([]time.Duration, len(edges))
	for i, e := range edges {
		d[i] = e.Overhead
	}
	slices.Sort(d)
	i := int(p/100*float64(len(d))+0.9999999) - 1
	return d[max(0, min(i, len(d)-1))]
}
