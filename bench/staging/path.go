package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/bench/shelf"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
)

// measured is what the way of is taken apart.
var measured = []lane{{releases: 4}, {releases: 10, own: true}, {releases: 40}}

// lane is what is measured of one group, one after the other.
type lane struct {
	releases int
	// own charts for each application, or one for all.
	own bool
}

// The milestones of a rollout, in the order in which they are due.
const (
	markAnswered  = "the API server has answered"
	markDesired   = "group.desired is stored"
	markIndex     = "the registry's index is read"
	markFetched   = "the last chart is read"
	markPushed    = "the last archive is in ChartMuseum"
	markCharts    = "the last HelmChart is ready"
	markStaged    = "charts.staged is stored"
	markRevision  = "the revision is kept"
	markWorkflow  = "the Workflow is there"
	markSubmitted = "workflow.submitted is stored"
	markFirst     = "the first HelmRelease is written"
	markUnchanged = "rollout.unchanged is stored"
)

var marks = []string{
	markAnswered, markDesired, markIndex, markFetched, markPushed, markCharts, markStaged,
	markRevision, markWorkflow, markSubmitted, markFirst, markUnchanged,
}

// The rollouts of a group.
const (
	rolloutCold      = "cold"
	rolloutChanged   = "one changed"
	rolloutUnchanged = "nothing changed"
)

// path is how long after a request each milestone of its rollout was passed, in seconds:
// the median of the repeats.
type path struct {
	Rollout  string             `json:"rollout"`
	Releases int                `json:"releases"`
	Charts   int                `json:"charts"`
	Repeats  int                `json:"repeats"`
	Seconds  map[string]float64 `json:"seconds"`
}

// measurePaths rolls groups out with all services, and takes the way to their first
// release apart.
func measurePaths(ctx context.Context, s *stack.Stack, lanes []lane, repeats int) (_ []path, err error) {
	t, err := newTrail(ctx, s, lanes, repeats)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	all := map[lane]map[string]map[string][]float64{}
	for repeat := range repeats {
		for i, l := range lanes {
			g := t.group(l, fmt.Sprintf("path-%d-%d", i, repeat), repeat*len(lanes)+i)
			if err := t.walk(ctx, g, func(rollout string, passed map[string]float64) {
				if all[l] == nil {
					all[l] = map[string]map[string][]float64{}
				}
				if all[l][rollout] == nil {
					all[l][rollout] = map[string][]float64{}
				}
				for mark, at := range passed {
					all[l][rollout][mark] = append(all[l][rollout][mark], at)
				}
			}); err != nil {
				return nil, fmt.Errorf("group %s: %w", g.Name, err)
			}
		}
	}
	var out []path
	for _, l := range lanes {
		for _, rollout := range []string{rolloutCold, rolloutChanged, rolloutUnchanged} {
			p := path{Rollout: rollout, Releases: l.releases, Charts: 1, Repeats: repeats, Seconds: map[string]float64{}}
			if l.own {
				p.Charts = l.releases
			}
			for mark, at := range all[l][rollout] {
				slices.Sort(at)
				p.Seconds[mark] = at[len(at)/2]
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// trail is what the way of groups is seen with.
type trail struct {
	client client.Client
	bus    *events.Bus
	shelf  *supply
	stack  *stack.Stack
	// museum is ChartMuseum's URL.
	museum string
	stop   context.CancelFunc

	mu   sync.Mutex
	seen []sighting
}

// sighting of an object, as a watch showed it.
type sighting struct {
	at     time.Time
	object *unstructured.Unstructured
}

func (t *trail) see(o any, now time.Time) {
	if u, ok := o.(*unstructured.Unstructured); ok {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.seen = append(t.seen, sighting{now, u})
	}
}

// group whose releases wait for the tenth before them.
func (t *trail) group(l lane, name string, first int) *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for i := range l.releases {
		a := v1alpha1.Application{DAG: v1alpha1.DAG{Name: fmt.Sprintf("r%02d", i)}}
		if i >= 10 {
			a.Dependencies = []string{fmt.Sprintf("r%02d", i-10)}
		}
		chart := fmt.Sprintf("one-%d", first)
		if l.own {
			chart = fmt.Sprintf("own-%d-%02d", first, i)
		}
		a.Spec.Chart = v1alpha1.ChartRef{URL: t.shelf.URL, Name: chart, Version: shelf.Version}
		a.Spec.Release = v1alpha1.Release{TargetNamespace: name, Interval: metav1.Duration{Duration: 5 * time.Minute},
			Values: &apiextensionsv1.JSON{Raw: []byte(`{"message":"hello"}`)}}
		g.Spec.Applications = append(g.Spec.Applications, a)
	}
	return g
}

// chartsOf all groups.
func chartsOf(lanes []lane, repeats int) []string {
	var names []string
	for first := range repeats * len(lanes) {
		l := lanes[first%len(lanes)]
		if !l.own {
			names = append(names, fmt.Sprintf("one-%d", first))
			continue
		}
		for i := range l.releases {
			names = append(names, fmt.Sprintf("own-%d-%02d", first, i))
		}
	}
	return names
}

// walk a group through its rollouts.
func (t *trail) walk(ctx context.Context, g *v1alpha1.ApplicationGroup, record func(rollout string, passed map[string]float64)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it was not done within %s", patience))
	defer cancel()
	for _, r := range []struct {
		name    string
		request func() error
	}{
		{rolloutCold, func() error { return t.client.Create(ctx, g) }},
		{rolloutChanged, func() error {
			return t.patch(ctx, g, types.JSONPatchType, `[{"op":"replace","path":"/spec/applications/0/spec/release/values","value":{"message":"changed"}}]`)
		}},
		{rolloutUnchanged, func() error {
			return t.patch(ctx, g, types.MergePatchType, fmt.Sprintf(`{"metadata":{"annotations":{%q:"again"}}}`, v1alpha1.AnnotationRequestedAt))
		}},
	} {
		state, err := t.bus.EventStream(ctx)
		if err != nil {
			return err
		}
		t.mu.Lock()
		t.seen = nil
		t.mu.Unlock()
		began := time.Now()
		if err := r.request(); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		answered := time.Now()
		if err := t.done(ctx, g.Name, state); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		passed, err := t.passed(ctx, g.Name, state)
		if err != nil {
			return err
		}
		passed[markAnswered] = answered
		after := map[string]float64{}
		for mark, at := range passed {
			if !at.Before(began) {
				after[mark] = at.Sub(began).Seconds()
			}
		}
		record(r.name, after)
	}
	if err := t.patch(ctx, g, types.MergePatchType, fmt.Sprintf(`{"metadata":{"annotations":{%q:"true"}}}`, v1alpha1.AnnotationForceDelete)); err != nil {
		return err
	}
	return t.client.Delete(ctx, g)
}

func (t *trail) patch(ctx context.Context, g *v1alpha1.ApplicationGroup, kind types.PatchType, patch string) error {
	at := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: g.Name}}
	return t.client.Patch(ctx, at, client.RawPatch(kind, []byte(patch)))
}

var errDone = errors.New("done")

// done waits until a rollout of the group has ended that was asked for after a state of
// the stream.
func (t *trail) done(ctx context.Context, group string, after events.StreamState) error {
	err := t.bus.Read(ctx, after.Created, after.Last+1, func(s events.Stored) error {
		if !strings.HasSuffix(s.Subject, "."+events.SubjectToken(group)) {
			return nil
		}
		var f struct {
			Type string
			Data struct{ Message string }
		}
		if err := json.Unmarshal(s.Event, &f); err != nil {
			return fmt.Errorf("reading event %d: %w", s.Sequence, err)
		}
		switch {
		case f.Type == string(events.TypeRolloutSucceeded), f.Type == string(events.TypeRolloutUnchanged):
			return errDone
		case f.Type == string(events.TypeRolloutFailed), f.Type == string(events.TypeChartsFailed):
			return fmt.Errorf("it failed: %s", f.Data.Message)
		}
		return nil
	})
	if errors.Is(err, errDone) {
		return nil
	}
	return errors.Join(err, context.Cause(ctx))
}

// passed is when milestones were.
func (t *trail) passed(ctx context.Context, group string, after events.StreamState) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	stored := map[events.Type]string{
		events.TypeGroupDesired: markDesired, events.TypeChartsStaged: markStaged,
		events.TypeWorkflowSubmitted: markSubmitted, events.TypeRolloutUnchanged: markUnchanged,
	}
	err := t.bus.Read(ctx, after.Created, after.Last+1, func(s events.Stored) error {
		var f struct{ Type string }
		if err := json.Unmarshal(s.Event, &f); err != nil {
			return fmt.Errorf("reading event %d: %w", s.Sequence, err)
		}
		if mark, ok := stored[events.Type(f.Type)]; ok {
			out[mark] = s.Time
		}
		if s.Pending == 0 {
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	t.shelf.mu.Lock()
	if !t.shelf.indexed.IsZero() {
		out[markIndex] = t.shelf.indexed
	}
	if !t.shelf.last.IsZero() {
		out[markFetched] = t.shelf.last
	}
	t.shelf.mu.Unlock()
	if out[markPushed], err = t.pushed(ctx, group); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.seen {
		mark, last, ok := markOf(s.object, group)
		if at, known := out[mark]; ok && (!known || last && at.Before(s.at)) {
			out[mark] = s.at
		}
	}
	return out, nil
}

// markOf is the milestone that a sighting is of, and whether the last such one counts or
// the first.
func markOf(o *unstructured.Unstructured, group string) (mark string, last, ok bool) {
	owned := o.GetLabels()[v1alpha1.LabelOwner] == group
	artifact, _, err := unstructured.NestedString(o.Object, "status", "artifact", "digest")
	if err != nil {
		artifact = ""
	}
	switch o.GetKind() {
	case "HelmChart":
		return markCharts, true, owned && artifact != "" && ready(o)
	case "ControllerRevision":
		return markRevision, false, owned && o.GetLabels()[v1alpha1.LabelRevision] == ""
	case "Workflow":
		return markWorkflow, false, owned
	case "HelmRelease":
		return markFirst, false, o.GetNamespace() == group
	}
	return "", false, false
}

func ready(o *unstructured.Unstructured) bool {
	conditions, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
	return err == nil && slices.ContainsFunc(conditions, func(c any) bool {
		m, ok := c.(map[string]any)
		return ok && m["type"] == "Ready" && m["status"] == "True"
	})
}

// table of paths, in milliseconds.
func table(paths []path) string {
	var b strings.Builder
	b.WriteString("| |")
	for _, p := range paths {
		fmt.Fprintf(&b, " %s of %d, %s |", p.Rollout, p.Releases, charts(p.Charts))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(paths)) + "\n")
	for _, mark := range marks {
		fmt.Fprintf(&b, "| %s |", mark)
		for _, p := range paths {
			text := "–"
			if at, ok := p.Seconds[mark]; ok {
				text = strconv.Itoa(int(at*1000)) + " ms"
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func charts(n int) string {
	if n == 1 {
		return "one chart"
	}
	return strconv.Itoa(n) + " charts"
}
