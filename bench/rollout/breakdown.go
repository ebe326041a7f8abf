package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/bench/rollout/figures"
	"orkestra.dev/bench/rollout/shape"
	"orkestra.dev/pkg/events"
)

// takenEdges are how many edges of a case are taken apart at least, with as many rollouts as
// that needs.
const takenEdges = 27

// workflowBytes is the size of a group's newest Workflow.
func (w *world) workflowBytes(ctx context.Context, group string) (int, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(workflows.GroupVersion().WithKind("WorkflowList"))
	if err := w.client.List(ctx, list, client.InNamespace(workflowNamespace), client.MatchingLabels{v1alpha1.LabelOwner: group}); err != nil {
		return 0, fmt.Errorf("reading the workflow of %s: %w", group, err)
	}
	if len(list.Items) != 1 {
		return 0, fmt.Errorf("group %s has %d workflows after its installation", group, len(list.Items))
	}
	data, err := list.Items[0].MarshalJSON()
	return len(data), err
}

// nodes are those of a workflow, by their IDs, when a phase of theirs was seen first.
type nodes struct {
	group string
	mu    sync.Mutex
	seen  map[string]map[string]time.Time
}

func (n *nodes) see(o any, now time.Time) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok || u.GetLabels()[v1alpha1.LabelOwner] != n.group {
		return
	}
	all, _, err := unstructured.NestedMap(u.Object, "status", "nodes")
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, v := range all {
		node, ok := v.(map[string]any)
		phase, isText := node["phase"].(string)
		if !ok || !isText {
			continue
		}
		if n.seen[id] == nil {
			n.seen[id] = map[string]time.Time{}
		}
		if n.seen[id][phase].IsZero() {
			n.seen[id][phase] = now
		}
	}
}

// breakdown rolls graphs out, and says when in an edge what happens.
func (w *world) breakdown(ctx context.Context, graphs []shape.Graph) ([]figures.Milestone, error) {
	var out []figures.Milestone
	for _, g := range graphs {
		offsets := map[string][]float64{}
		for repeat := 100; len(offsets[parentReady]) < takenEdges; repeat++ {
			if err := w.takeApart(ctx, g, repeat, offsets); err != nil {
				return nil, fmt.Errorf("%s: %w", g.Name(), err)
			}
			if len(offsets[parentReady]) == 0 {
				return nil, fmt.Errorf("%s has no edges", g.Name())
			}
		}
		var one []figures.Milestone
		for name, values := range offsets {
			one = append(one, figures.Milestone{Case: g.Name(), Name: name,
				P50: figures.Percentile(values, 50), P99: figures.Percentile(values, 99), Edges: len(values)})
		}
		slices.SortFunc(one, func(a, b figures.Milestone) int { return int((a.P50 - b.P50) * 1e9) })
		out = append(out, one...)
	}
	return out, nil
}

// takeApart one rollout: offsets are seconds after a parent was seen ready.
func (w *world) takeApart(ctx context.Context, g shape.Graph, repeat int, offsets map[string][]float64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it was not done within %s", patience))
	defer cancel()
	r, err := w.newRollout(ctx, entrant{name: figures.Orkestra, contender: orkestra{}, sequences: true}, g, repeat)
	if err != nil {
		return err
	}
	defer w.watch.unfollow(r.track)
	objects, err := dynamic.NewForConfig(w.config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	n := &nodes{group: r.namespace, seen: map[string]map[string]time.Time{}}
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(objects, 0, workflowNamespace, func(o *metav1.ListOptions) {
		o.LabelSelector = v1alpha1.LabelOwner + "=" + r.namespace
	})
	watching, stop := context.WithCancel(ctx)
	defer stop()
	if err := hear(watching, map[cache.SharedIndexInformer]func(any, time.Time){factory.ForResource(workflows).Informer(): n.see}); err != nil {
		return err
	}
	state, err := w.bus.EventStream(ctx)
	if err != nil {
		return err
	}
	r.phase()
	if err := r.entrant.install(ctx, r); err != nil {
		return err
	}
	said, err := w.said(ctx, state)
	if err != nil {
		return err
	}
	r.edges(n, said, offsets)
	return r.takeAway(ctx)
}

// fact is what matters here of an event that was said.
type fact struct {
	Type string
	Data struct{ Name, Node, Task, Namespace string }
	at   time.Time
}

var errRead = errors.New("all of it is read")

// said is what is in the stream after a state of it.
func (w *world) said(ctx context.Context, after events.StreamState) (out []fact, err error) {
	err = w.bus.Read(ctx, after.Created, after.Last+1, func(s events.Stored) error {
		f := fact{at: s.Time}
		if err := json.Unmarshal(s.Event, &f); err != nil {
			return fmt.Errorf("reading event %d: %w", s.Sequence, err)
		}
		out = append(out, f)
		if s.Pending == 0 {
			return errRead
		}
		return nil
	})
	if !errors.Is(err, errRead) {
		return nil, errors.Join(fmt.Errorf("reading the stream: %w", context.Cause(ctx)), err)
	}
	return out, nil
}

// task is the place in the workflow of the one release of an application.
func task(application string) string {
	return application + "." + v1alpha1.TaskName(application, "")
}

// parentReady is the milestone that all others are measured from.
const parentReady = "last parent seen ready"

// edges adds to offsets the milestones of each release that waits for others.
func (r *rollout) edges(n *nodes, said []fact, offsets map[string][]float64) {
	stored := map[events.Type]map[string]time.Time{}
	ids := map[string]string{}
	for _, f := range said {
		t := events.Type(f.Type)
		if stored[t] == nil {
			stored[t] = map[string]time.Time{}
		}
		stored[t][f.Data.Task] = f.at
		if f.Data.Node != "" {
			ids[f.Data.Task] = f.Data.Node
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, child := range r.graph.Releases {
		parent := r.lastReady(child.Parents)
		if parent == "" {
			continue
		}
		p, c := task(parent), task(child.Name)
		for name, at := range map[string]time.Time{
			parentReady:                             r.ready[parent],
			"release.ready of the parent stored":    stored[events.TypeReleaseReady][p],
			"executor decides on the child":         r.decided[child.Name],
			"Workflow: the parent's node succeeded": n.seen[ids[p]]["Succeeded"],
			"node.succeeded of the parent stored":   stored[events.TypeNodeSucceeded][p],
			"Workflow: the child's node is running": n.seen[ids[c]]["Running"],
			"node.started of the child stored":      stored[events.TypeNodeStarted][c],
			"child's HelmRelease seen":              r.created[child.Name],
			"child's first Helm record seen":        r.helm[child.Name],
			"child's Helm record says deployed":     r.deployed[child.Name],
			"child seen ready":                      r.ready[child.Name],
		} {
			if !at.IsZero() {
				offsets[name] = append(offsets[name], at.Sub(r.ready[parent]).Seconds())
			}
		}
	}
}
