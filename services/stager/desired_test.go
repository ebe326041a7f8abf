package stager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/stager/internal/charttest"
	"orkestra.dev/services/stager/internal/lru"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
	"orkestra.dev/services/stager/retention"
	"orkestra.dev/services/stager/stage"
)

// memory is a museum, and what was done to it.
type memory struct {
	mu       sync.Mutex
	held     held
	archives map[museumChart][]byte
	pushed   []string
	taken    func()    // called after something was removed
	pushing  func()    // called before something is kept
	since    time.Time // when all of it was pushed
	err      error
}

func (m *memory) Held(context.Context, string) (held, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.held), m.err
}

func (m *memory) Stored(context.Context, string) (map[retention.Archive]time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	stored := map[retention.Archive]time.Time{}
	for c := range m.held {
		stored[retention.Archive(c)] = m.since
	}
	return stored, m.err
}

func (m *memory) Push(_ context.Context, tenant string, p stage.Piece) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := museumChart{p.Chart, p.Version}
	if d, ok := m.held[key]; ok {
		return d, nil
	}
	if m.pushing != nil {
		m.pushing()
		m.pushing = nil
	}
	m.held[key], m.archives[key] = p.Digest, p.Archive
	m.pushed = append(m.pushed, tenant+"/"+p.Chart+" "+p.Version)
	return p.Digest, nil
}

func (m *memory) Remove(_ context.Context, _ string, c museumChart) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, c)
	if m.taken != nil {
		m.taken()
	}
	return nil
}

func (m *memory) Archive(_ context.Context, _ string, c museumChart) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch _, ok := m.held[c]; {
	case m.err != nil:
		return nil, m.err
	case !ok:
		return nil, notThere{errors.New("404")}
	default:
		return m.archives[c], nil
	}
}

// shelf is a registry: archives, or errors, by chart.
type shelf map[string]any

func (s shelf) Resolve(_ context.Context, ref registry.Ref) (*registry.Resolved, error) {
	if err, ok := s[ref.Name].(error); ok {
		return nil, err
	}
	return &registry.Resolved{Name: ref.Name, Version: "1.0.0"}, nil
}

func (s shelf) Fetch(_ context.Context, r *registry.Resolved) ([]byte, error) {
	return s[r.Name].([]byte), nil
}

func (s shelf) Provenance(_ context.Context, r *registry.Resolved) ([]byte, error) {
	if proof, ok := s[r.Name+".prov"].([]byte); ok {
		return proof, nil
	}
	return nil, refusal.Becausef(v1alpha1.ReasonVerificationFailed, "there is no provenance")
}

func (s shelf) Signatures(context.Context, *registry.Resolved) ([]registry.Signature, error) {
	return nil, refusal.Becausef(v1alpha1.ReasonVerificationFailed, "there is no signature")
}

const chart = `
-- Chart.yaml --
{apiVersion: v2, name: shop, version: 1.0.0}
-- charts/db/Chart.yaml --
{apiVersion: v2, name: db, version: 0.1.0}
-- charts/db/templates/cm.yaml --
{apiVersion: v1, kind: ConfigMap, metadata: {name: db}}
`

// world is a stager in an API server that is played.
type world struct {
	*stager
	museum *memory
	shelf  shelf
	mu     sync.Mutex
	writes []string // what was applied or patched
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		v1alpha1.AddToScheme, sourcev1.AddToScheme, helmv2.AddToScheme, corev1.AddToScheme, appsv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{museum: newMemory(), shelf: shelf{"shop": charttest.Archive(t, "shop", chart)}}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.ApplicationGroup{}, &sourcev1.HelmChart{}).
		WithInterceptorFuncs(interceptor.Funcs{Apply: w.apply, SubResourceApply: w.offer, Patch: w.patch}).Build()
	log := slog.New(slog.DiscardHandler)
	served, err := newArtifacts(w.museum, "http://stager", 1<<20, log)
	if err != nil {
		t.Fatal(err)
	}
	w.stager = &stager{
		client: c, registry: w.shelf, museum: w.museum, artifacts: served,
		charts: lru.New[*stage.Chart](1 << 20), tagged: lru.New[stage.Piece](1 << 20), slots: make(chan struct{}, splitting),
		namespace: "orkestra", patience: 5 * time.Second, now: time.Now, log: log,
	}
	return w
}

func newMemory() *memory { return &memory{held: held{}, archives: map[museumChart][]byte{}} }

func (w *world) wrote(what, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = append(w.writes, what+" "+strings.TrimRight(name, "0123456789abcdef"))
}

func (w *world) apply(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	w.wrote("apply", o.(interface{ GetName() string }).GetName())
	return c.Apply(ctx, o, opts...)
}

func (w *world) offer(ctx context.Context, c client.Client, sub string, o runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
	w.wrote("offer", o.(interface{ GetName() string }).GetName())
	return c.SubResource(sub).Apply(ctx, o, opts...)
}

func (w *world) patch(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
	w.wrote("mark", o.GetName())
	return c.Patch(ctx, o, p, opts...)
}

func newGroup(apps ...string) *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{
		Name: "group", UID: "uid", Generation: 3, Annotations: map[string]string{v1alpha1.AnnotationRequestedAt: "now"},
	}}
	for _, name := range apps {
		a := v1alpha1.Application{DAG: v1alpha1.DAG{Name: name}}
		a.Spec.Chart = v1alpha1.ChartRef{URL: "https://user:canary@charts.example.org", Name: "shop", Version: "*"}
		a.Spec.Subcharts = []v1alpha1.DAG{{Name: "db"}}
		a.Spec.Release.TargetNamespace = "apps"
		g.Spec.Applications = append(g.Spec.Applications, a)
	}
	return g
}

func (w *world) desire(t *testing.T, g *v1alpha1.ApplicationGroup) ([]events.Fact, error) {
	t.Helper()
	f := events.New(groupstatus.RolloutOf(g), events.GroupDesired{})
	f.Attempt = 1
	return w.handle(t.Context(), f)
}

func (w *world) staged(t *testing.T) (metav1.Condition, []v1alpha1.ApplicationStatus) {
	t.Helper()
	var g v1alpha1.ApplicationGroup
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: "group"}, &g); err != nil {
		t.Fatal(err)
	}
	c := apimeta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionStaged)
	if c == nil {
		t.Fatal("there is no condition Staged")
	}
	return *c, g.Status.Applications
}

func TestDesired(t *testing.T) {
	g := newGroup("one", "two")
	g.Spec.Applications[1].Spec.Subcharts = nil
	w := newWorld(t, g)
	facts, err := w.desire(t, g)
	if err != nil {
		t.Fatal(err)
	}
	staged, ok := facts[0].Data.(events.ChartsStaged)
	if !ok || len(facts) != 1 || facts[0].Rollout != groupstatus.RolloutOf(g) {
		t.Fatalf("want charts.staged of the rollout, got %v", facts)
	}
	// "two" is the whole chart, whose name and version the own piece of "one" has.
	whole := staged.Applications[1].Pieces[0]
	tag := "1.0.0+orkestra." + strings.TrimPrefix(staged.Applications[1].Digest, "sha256:")[:8]
	if whole.Version != tag || whole.Digest == staged.Applications[1].Digest {
		t.Errorf("other contents under one name and version get another version: %+v", whole)
	}
	slices.Sort(w.museum.pushed)
	if diff := cmp.Diff([]string{"group/shop 1.0.0", "group/shop " + tag, "group/shop-db 1.0.0"}, w.museum.pushed); diff != "" {
		t.Errorf("pushed (-want +got):\n%s", diff)
	}
	slices.Sort(w.writes)
	if diff := cmp.Diff([]string{
		"apply group-shop-", "apply group-shop-", "apply group-shop-db-", "offer group-shop-", "offer group-shop-", "offer group-shop-db-",
	}, w.writes); diff != "" {
		t.Errorf("two writes make a chart installable (-want +got):\n%s", diff)
	}
	c, apps := w.staged(t)
	if c.Status != metav1.ConditionTrue || c.Reason != v1alpha1.ReasonStaged || c.ObservedGeneration != 3 {
		t.Errorf("condition %+v", c)
	}
	if diff := cmp.Diff([]v1alpha1.ApplicationStatus{
		{Name: "one", ChartStatus: v1alpha1.ChartStatus{Chart: "shop", Version: "1.0.0", Staged: true}, Subcharts: map[string]v1alpha1.ChartStatus{"db": {Chart: "shop-db", Version: "0.1.0", Staged: true}}},
		{Name: "two", ChartStatus: v1alpha1.ChartStatus{Chart: "shop", Version: "1.0.0", Staged: true}},
	}, apps); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}

	var h sourcev1.HelmChart
	if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: "orkestra", Name: staged.Applications[0].Pieces[0].HelmChart}, &h); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{v1alpha1.LabelHeritage: "orkestra", v1alpha1.LabelOwner: "group"}, h.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if len(h.OwnerReferences) != 1 || h.OwnerReferences[0].UID != "uid" || !slices.Contains(h.Finalizers, sourcev1.SourceFinalizer) {
		t.Errorf("it goes with the group, and source-controller need not add its finalizer: %+v", h.ObjectMeta)
	}
	whose := staged.Applications[0].Pieces[0]
	if url := "http://stager/group/" + whose.Chart + "/1.0.0/" + strings.TrimPrefix(whose.Digest, "sha256:") + ".tgz"; !h.Spec.Suspend || h.Status.Artifact.URL != url || h.Status.Artifact.Digest != whose.Digest {
		t.Errorf("source-controller leaves it alone, and it offers what is at %s: %+v", url, h)
	}

	w.museum.pushed, w.writes = nil, nil
	again, err := w.desire(t, g)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(facts, again); diff != "" {
		t.Errorf("twice is once (-first +second):\n%s", diff)
	}
	if len(w.museum.pushed)+len(w.writes) > 0 {
		t.Errorf("what is there is left alone; pushed %v, wrote %v", w.museum.pushed, w.writes)
	}

	w.shelf["shop"] = charttest.Archive(t, "shop", chart+"-- files/new --\nx\n")
	if facts, err = w.desire(t, g); err != nil {
		t.Fatal(err)
	}
	for _, p := range facts[0].Data.(events.ChartsStaged).Applications[0].Pieces {
		if !strings.HasPrefix(p.Version, "1.0.0+orkestra.") {
			t.Errorf("a chart that was published anew under its version is staged beside the old: %+v", p)
		}
	}
	if len(w.writes) == 0 || len(w.museum.pushed) == 0 {
		t.Errorf("what is new is offered: %v", w.writes)
	}
}

func TestSuperseded(t *testing.T) {
	now := metav1.Now()
	for name, change := range map[string]func(*v1alpha1.ApplicationGroup){
		"NewerSpec":    func(g *v1alpha1.ApplicationGroup) { g.Generation++ },
		"NewerRequest": func(g *v1alpha1.ApplicationGroup) { g.Annotations[v1alpha1.AnnotationRequestedAt] = "later" },
		"AnotherGroup": func(g *v1alpha1.ApplicationGroup) { g.UID = types.UID("another") },
		"Deleting": func(g *v1alpha1.ApplicationGroup) {
			g.DeletionTimestamp, g.Finalizers = &now, []string{v1alpha1.Finalizer}
		},
		"Gone": nil,
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup("one")
			var objects []client.Object
			if change != nil {
				live := g.DeepCopy()
				change(live)
				objects = append(objects, live)
			}
			w := newWorld(t, objects...)
			facts, err := w.desire(t, g)
			if !events.IsSuperseded(err) || facts != nil || len(w.museum.pushed) > 0 {
				t.Errorf("nothing is done for a group that has moved on: %v, %v, %v", facts, err, w.museum.pushed)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	notFound := refusal.Becausef(v1alpha1.ReasonChartNotFound, "no such version")
	away := refusal.Becausef(v1alpha1.ReasonRepositoryUnreachable, "no answer")
	for name, c := range map[string]struct {
		promise string
		change  func(*world, *v1alpha1.ApplicationGroup)
		reason  string
		app     string // of charts.failed
		heals   bool
		say     string
	}{
		"NotFound": {"a chart that is not there ends the rollout", func(w *world, g *v1alpha1.ApplicationGroup) {
			g.Spec.Applications[1].Spec.Chart.Name = "shoe"
			w.shelf["shoe"] = notFound
		}, v1alpha1.ReasonChartNotFound, "two", false, "application two (chart shoe * of https://user:xxxxx@charts.example.org): no such version"},
		"UnknownSubchart": {"so does a subchart that is not there", func(_ *world, g *v1alpha1.ApplicationGroup) {
			g.Spec.Applications[0].Spec.Subcharts[0].Name = "dp"
		}, v1alpha1.ReasonUnknownSubchart, "one", false, "has no subchart dp"},
		"NotAChart": {"and an archive that is none", func(w *world, _ *v1alpha1.ApplicationGroup) {
			w.shelf["shop"] = []byte("<html>")
		}, v1alpha1.ReasonInvalidChart, "one", false, "not a gzipped tar"},
		"AnotherChart": {"and one that is another than the index says", func(w *world, g *v1alpha1.ApplicationGroup) {
			g.Spec.Applications[0].Spec.Chart.Name = "shoe"
			w.shelf["shoe"] = w.shelf["shop"]
		}, v1alpha1.ReasonInvalidChart, "one", false, "calls it shoe 1.0.0"},
		"NoSecret": {"and credentials that are not there", func(_ *world, g *v1alpha1.ApplicationGroup) {
			g.Spec.Applications[0].Spec.Chart.AuthSecretRef = &corev1.ObjectReference{Name: "creds"}
		}, v1alpha1.ReasonAuthenticationFailed, "one", false, "Secret default/creds"},
		"Unreachable": {"a registry that is away is waited for", func(w *world, _ *v1alpha1.ApplicationGroup) {
			w.shelf["shop"] = away
		}, v1alpha1.ReasonRepositoryUnreachable, "", true, "application two"},
		"NoValues": {"values that are not there are waited for", func(_ *world, g *v1alpha1.ApplicationGroup) {
			g.Spec.Applications[1].Spec.Release.ValuesFrom = []helmv2.ValuesReference{{Kind: "Secret", Name: "settings"}}
		}, v1alpha1.ReasonValuesNotFound, "", true, "Secret apps/settings"},
		"NoKeys": {"a chart that has to prove who made it needs keys", func(_ *world, g *v1alpha1.ApplicationGroup) {
			g.Spec.Applications[0].Spec.Chart.Verify = &v1alpha1.ChartVerification{
				Provider: v1alpha1.VerifyProvenance, SecretRef: corev1.SecretReference{Name: "keys", Namespace: "trust"},
			}
		}, v1alpha1.ReasonVerificationFailed, "one", false, "Secret trust/keys, which verify.secretRef names"},
		"BothKinds": {"what does not heal decides, and all is told", func(w *world, g *v1alpha1.ApplicationGroup) {
			g.Spec.Applications[1].Spec.Chart.Name = "shoe"
			w.shelf["shop"], w.shelf["shoe"] = away, notFound
		}, v1alpha1.ReasonChartNotFound, "two", false, "no answer; application two"},
		"MuseumAway": {"a museum that is away is waited for", func(w *world, _ *v1alpha1.ApplicationGroup) {
			w.museum.err = refusal.Becausef(v1alpha1.ReasonStagingUnavailable, "museum away")
		}, v1alpha1.ReasonStagingUnavailable, "", true, "museum away"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup("one", "two")
			w := newWorld(t)
			c.change(w, g)
			if err := w.client.Create(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			facts, err := w.desire(t, g)
			_, retry := events.RetryDelay(err)
			if retry != c.heals || !c.heals && err != nil {
				t.Fatalf("%s: %v", c.promise, err)
			}
			if !c.heals {
				f, ok := facts[0].Data.(events.ChartsFailed)
				if !ok || f.Reason != c.reason || f.Application != c.app || f.URL != "https://user:xxxxx@charts.example.org" {
					t.Errorf("%s: fact %+v", c.promise, facts[0].Data)
				}
			}
			cond, apps := w.staged(t)
			if cond.Status != metav1.ConditionFalse || cond.Reason != c.reason || !strings.Contains(cond.Message, c.say) {
				t.Errorf("%s: condition %+v, want reason %s and %q", c.promise, cond, c.reason, c.say)
			}
			if said := fmt.Sprint(facts, err, cond, apps); strings.Contains(said, "canary") {
				t.Errorf("a password is told: %s", said)
			}
			if apps[0].Staged || apps[1].Staged {
				t.Errorf("%s: status %+v", c.promise, apps)
			}
			if len(w.museum.pushed) > 0 {
				t.Errorf("nothing is pushed for a group that cannot be staged whole: %v", w.museum.pushed)
			}
		})
	}
}

func TestTroubleOfOurOwnIsNotTheGroups(t *testing.T) {
	g := newGroup("one")
	w := newWorld(t, g)
	w.shelf["shop"] = errors.New("etcd is away")
	facts, err := w.desire(t, g)
	if _, retry := events.RetryDelay(err); err == nil || retry || facts != nil {
		t.Errorf("it is tried again, and nothing is said: %v, %v", facts, err)
	}
	if c, _ := w.staged(t); c.Status != metav1.ConditionUnknown || c.Reason != v1alpha1.ReasonProgressing {
		t.Errorf("the condition is there from the first visit, and blames nobody: %+v", c)
	}
}

func TestBackoff(t *testing.T) {
	var got []string
	for _, n := range []uint64{0, 1, 2, 3, 7, 8, 1000} {
		got = append(got, backoff(n).String())
	}
	if diff := cmp.Diff([]string{"1s", "1s", "2s", "4s", "1m4s", "2m0s", "2m0s"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
