package stager

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/stager/internal/charttest"
)

const collectGrace = 10 * time.Minute

// cellar is a world with a collector, whose clock is set by hand.
type cellar struct {
	*world
	*collector
	at time.Time
}

func newCellar(t *testing.T, g *v1alpha1.ApplicationGroup) *cellar {
	t.Helper()
	c := &cellar{world: newWorld(t, g), at: time.Now()}
	c.world.now = func() time.Time { return c.at }
	c.museum.since = c.at
	c.collector = &collector{stager: c.world.stager, every: time.Minute, grace: collectGrace}
	return c
}

// newUpdated is a cellar with what a group had before, which nothing needs any more.
func newUpdated(t *testing.T) (*cellar, *v1alpha1.ApplicationGroup) {
	t.Helper()
	g := newGroup("one")
	c := newCellar(t, g)
	c.rollOut(t, g, "first")
	c.change(t, g)
	c.rollOut(t, g, "second")
	c.forget(t, "first")
	return c, g
}

// newUnneeded is newUpdated when the next sweep removes from the museum what nothing needs.
func newUnneeded(t *testing.T) (*cellar, *v1alpha1.ApplicationGroup) {
	t.Helper()
	c, g := newUpdated(t)
	for range 2 {
		must(t, c.sweep(t.Context()))
		c.release(t)
		c.at = c.at.Add(collectGrace)
	}
	return c, g
}

// rollOut stages the group and records what the compiler would, under a name.
func (c *cellar) rollOut(t *testing.T, g *v1alpha1.ApplicationGroup, name string) {
	t.Helper()
	facts, err := c.desire(t, g)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(map[string]any{
		"rollout": groupstatus.RolloutOf(g), "spec": g.Spec, "staged": facts[0].Data.(events.ChartsStaged).Applications,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &appsv1.ControllerRevision{ObjectMeta: object("orkestra", name), Data: runtime.RawExtension{Raw: data}}
	r.Labels = map[string]string{v1alpha1.LabelHeritage: v1alpha1.Heritage}
	if err := c.world.client.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// change makes the group another, and another version of its chart.
func (c *cellar) change(t *testing.T, g *v1alpha1.ApplicationGroup) {
	t.Helper()
	c.shelf["shop"] = charttest.Archive(t, "shop", chart+"-- files/new --\nx\n")
	live := &v1alpha1.ApplicationGroup{}
	if err := c.world.client.Get(t.Context(), client.ObjectKeyFromObject(g), live); err != nil {
		t.Fatal(err)
	}
	live.Annotations[v1alpha1.AnnotationRequestedAt] += "+"
	if err := c.world.client.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	*g = *live
}

func (c *cellar) forget(t *testing.T, name string) {
	t.Helper()
	if err := c.world.client.Delete(t.Context(), &appsv1.ControllerRevision{ObjectMeta: object("orkestra", name)}); err != nil {
		t.Fatal(err)
	}
}

// sweeps lets the grace go by twice. source-controller takes its finalizer off.
func (c *cellar) sweeps(t *testing.T) {
	t.Helper()
	for range 3 {
		if err := c.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.release(t)
		c.at = c.at.Add(collectGrace)
	}
}

func (c *cellar) charts(t *testing.T) []sourcev1.HelmChart {
	t.Helper()
	var list sourcev1.HelmChartList
	if err := c.world.client.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func (c *cellar) release(t *testing.T) {
	t.Helper()
	for _, h := range c.charts(t) {
		if leaving(&h) {
			h.Finalizers = nil
			if err := c.world.client.Update(t.Context(), &h); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (c *cellar) holds(t *testing.T, promise string, versions ...string) {
	t.Helper()
	var in, museum []string
	for _, h := range c.charts(t) {
		in = append(in, h.Spec.Chart+" "+h.Spec.Version)
	}
	for h := range c.museum.held {
		museum = append(museum, h.Name+" "+h.Version)
	}
	for where, got := range map[string][]string{"the cluster": in, "the museum": museum} {
		slices.Sort(got)
		if diff := cmp.Diff(versions, got); diff != "" {
			t.Errorf("%s: in %s (-want +got):\n%s", promise, where, diff)
		}
	}
}

func TestCollect(t *testing.T) {
	g := newGroup("one")
	c := newCellar(t, g)
	c.rollOut(t, g, "first")
	c.sweeps(t)
	c.holds(t, "what the current rollout installs stays", "shop 1.0.0", "shop-db 1.0.0")

	c.change(t, g)
	c.sweeps(t)
	c.holds(t, "while a rollout is under way nothing goes", "shop 1.0.0", "shop-db 1.0.0")
	c.rollOut(t, g, "second")
	var all []string
	for h := range c.museum.held {
		all = append(all, h.Name+" "+h.Version)
	}
	slices.Sort(all)
	if len(all) != 4 {
		t.Fatalf("the museum holds %v, want two versions of two charts", all)
	}
	newer := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return strings.HasSuffix(s, " 1.0.0") })
	c.sweeps(t)
	c.holds(t, "nor what a rollback could go to", all...)

	installed := c.charts(t)[0]
	release := &helmv2.HelmRelease{ObjectMeta: object("apps", "one")}
	release.Spec.ChartRef = &helmv2.CrossNamespaceSourceReference{Kind: sourcev1.HelmChartKind, Name: installed.Name, Namespace: "orkestra"}
	if err := c.world.client.Create(t.Context(), release); err != nil {
		t.Fatal(err)
	}
	c.forget(t, "first")
	c.sweeps(t)
	want := append(slices.Clone(newer), installed.Spec.Chart+" "+installed.Spec.Version)
	slices.Sort(want)
	c.holds(t, "nor what is installed", slices.Compact(want)...)

	if err := c.world.client.Delete(t.Context(), release); err != nil {
		t.Fatal(err)
	}
	c.sweeps(t)
	c.holds(t, "all else goes, and its archive with it", newer...)
}

func TestCollectWaits(t *testing.T) {
	c, g := newUpdated(t)
	step := func(d time.Duration) (marked int) {
		c.at = c.at.Add(d)
		if err := c.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, h := range c.charts(t) {
			if h.Annotations[v1alpha1.AnnotationUnusedSince] != "" {
				marked++
			}
		}
		return marked
	}
	if n := step(0); n != 2 {
		t.Errorf("what nothing needs is marked: %d are", n)
	}
	if n := step(collectGrace - time.Second); n != 2 {
		t.Errorf("and stays as long as the grace: %d do", n)
	}
	// The old chart is wanted again: it comes back under the version that it had.
	c.change(t, g)
	c.shelf["shop"] = charttest.Archive(t, "shop", chart)
	c.museum.pushed = nil
	c.rollOut(t, g, "third")
	if n := step(time.Hour); len(c.museum.pushed) > 0 || n != 0 {
		t.Errorf("what is staged again is taken into use as it is: pushed %v, %d are marked", c.museum.pushed, n)
	}
	for _, h := range c.charts(t) {
		if leaving(&h) {
			t.Errorf("HelmChart %s is deleted while it is in use", h.Name)
		}
	}
}

func TestCollectAgainstStaging(t *testing.T) {
	c, g := newUpdated(t)
	if err := c.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, _, err := c.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.change(t, g)
	c.shelf["shop"] = charttest.Archive(t, "shop", chart)
	if _, err := c.desire(t, g); err != nil {
		t.Fatal(err)
	}
	for _, chart := range s.Charts {
		if chart.UnusedSince.IsZero() {
			continue
		}
		if err := c.delete(t.Context(), chart); err != nil {
			t.Errorf("that somebody was faster is no error: %v", err)
		}
	}
	if n := len(c.charts(t)); n != 4 || slices.ContainsFunc(c.charts(t), func(h sourcev1.HelmChart) bool { return leaving(&h) }) {
		t.Errorf("what staging takes into use between the look and the deletion stays: there are %d", n)
	}
}

func TestTwoCollectors(t *testing.T) {
	c, _ := newUpdated(t)
	for range 3 {
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := c.sweep(t.Context()); err != nil {
					t.Errorf("two side by side are harmless: %v", err)
				}
			})
		}
		wg.Wait()
		c.release(t)
		c.at = c.at.Add(collectGrace)
	}
	if n := len(c.charts(t)); n != 2 || len(c.museum.held) != 2 {
		t.Errorf("two collectors do what one does: %d HelmCharts, %v", n, c.museum.held)
	}
}

func TestCollectKeepsWhatItDoesNotUnderstand(t *testing.T) {
	g := newGroup("one")
	c := newCellar(t, g)
	c.rollOut(t, g, "first")
	r := &appsv1.ControllerRevision{ObjectMeta: object("orkestra", "odd"), Data: runtime.RawExtension{Raw: []byte(`["odd"]`)}}
	r.Labels = map[string]string{v1alpha1.LabelHeritage: v1alpha1.Heritage}
	if err := c.world.client.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := c.sweep(t.Context()); err == nil || !strings.Contains(err.Error(), "odd") {
		t.Errorf("a revision that cannot be read may need anything: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.run(ctx); err != nil {
		t.Errorf("to be told to stop is no error: %v", err)
	}
}

// An archive that whoever stages the group may have seen just before it was removed is put back.
func TestCollectPutsBack(t *testing.T) {
	for name, tc := range map[string]struct {
		promise string
		happens func(*testing.T, *cellar, *v1alpha1.ApplicationGroup)
		left    int
	}{
		"Nothing": {"what nobody wants goes", func(*testing.T, *cellar, *v1alpha1.ApplicationGroup) {}, 2},
		"Changed": {"the group is being staged", func(t *testing.T, c *cellar, g *v1alpha1.ApplicationGroup) { c.change(t, g) }, 4},
		"Deleted": {"nobody stages it again", func(t *testing.T, c *cellar, g *v1alpha1.ApplicationGroup) {
			must(t, c.world.client.Delete(t.Context(), g))
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			c, g := newUnneeded(t)
			c.museum.taken = func() {
				c.museum.taken = nil
				tc.happens(t, c, g)
			}
			must(t, c.sweep(t.Context()))
			if len(c.museum.held) != tc.left {
				t.Errorf("%s: the museum holds %v", tc.promise, c.museum.held)
			}
			for chart := range c.museum.held {
				if len(c.museum.archives[chart]) == 0 {
					t.Errorf("%s %s is there without its bytes", chart.Name, chart.Version)
				}
			}
		})
	}
}

// ChartMuseum has lost its disk: what the groups that are at rest need is pushed again.
func TestRestock(t *testing.T) {
	g := newGroup("one")
	c := newCellar(t, g)
	c.rollOut(t, g, "first")
	clear(c.museum.held)
	c.museum.pushed = nil
	must(t, c.sweep(t.Context()))
	slices.Sort(c.museum.pushed)
	if diff := cmp.Diff([]string{"group/shop 1.0.0", "group/shop-db 1.0.0"}, c.museum.pushed); diff != "" {
		t.Errorf("pushed (-want +got):\n%s", diff)
	}
	c.museum.pushed = nil
	must(t, c.sweep(t.Context()))
	if len(c.museum.pushed) > 0 {
		t.Errorf("what is there is left alone: %v", c.museum.pushed)
	}

	clear(c.museum.held)
	c.shelf["shop"] = errors.New("the registry is away")
	if err := c.sweep(t.Context()); err == nil || !strings.Contains(err.Error(), "registry is away") {
		t.Errorf("what cannot be done is said: %v", err)
	}
}
