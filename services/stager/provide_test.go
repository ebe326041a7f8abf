package stager

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/stager/stage"
)

// newStaged is a world with a group of one chart that is staged, and its HelmChart.
func newStaged(t *testing.T) (*world, *v1alpha1.ApplicationGroup, *sourcev1.HelmChart) {
	t.Helper()
	g := newGroup("one")
	g.Spec.Applications[0].Spec.Subcharts = nil
	w := newWorld(t, g)
	if _, err := w.desire(t, g); err != nil {
		t.Fatal(err)
	}
	w.writes = nil
	return w, g, w.only(t)
}

// only is the one HelmChart that there is.
func (w *world) only(t *testing.T) *sourcev1.HelmChart {
	t.Helper()
	var all sourcev1.HelmChartList
	if err := w.client.List(t.Context(), &all); err != nil || len(all.Items) != 1 {
		t.Fatalf("%d HelmCharts, want one: %v", len(all.Items), err)
	}
	return &all.Items[0]
}

// Whatever has become of a HelmChart, to stage its group again makes it installable.
func TestStagingMends(t *testing.T) {
	for name, tc := range map[string]struct {
		promise string
		hurt    func(t *testing.T, w *world, h *sourcev1.HelmChart)
		writes  string
	}{
		"Resumed": {"source-controller is to leave it alone", func(t *testing.T, w *world, h *sourcev1.HelmChart) {
			h.Spec.Suspend, h.Status = false, sourcev1.HelmChartStatus{}
			must(t, w.client.Status().Update(t.Context(), h))
			h.Spec.Suspend = false
			must(t, w.client.Update(t.Context(), h))
		}, "apply offer"},
		"Half": {"who made it died before it said what it offers", func(t *testing.T, w *world, h *sourcev1.HelmChart) {
			h.Status = sourcev1.HelmChartStatus{}
			must(t, w.client.Status().Update(t.Context(), h))
		}, "offer"},
		"Elsewhere": {"we are reached under another name now", func(t *testing.T, w *world, h *sourcev1.HelmChart) {
			h.Status.Artifact.URL = "http://before/shop.tgz"
			must(t, w.client.Status().Update(t.Context(), h))
		}, "offer"},
		"Marked": {"it was about to be collected", func(t *testing.T, w *world, h *sourcev1.HelmChart) {
			h.Annotations[v1alpha1.AnnotationUnusedSince] = "2026-01-02T03:04:05Z"
			must(t, w.client.Update(t.Context(), h))
		}, "mark"},
		"Foreign": {"a group of that name left it behind", func(t *testing.T, w *world, h *sourcev1.HelmChart) {
			h.OwnerReferences[0].UID = "before"
			must(t, w.client.Update(t.Context(), h))
		}, "apply"},
		"Gone": {"it is not there", func(t *testing.T, w *world, h *sourcev1.HelmChart) {
			h.Finalizers = nil
			must(t, w.client.Update(t.Context(), h))
			must(t, w.client.Delete(t.Context(), h))
		}, "apply offer"},
	} {
		t.Run(name, func(t *testing.T) {
			w, g, h := newStaged(t)
			tc.hurt(t, w, h)
			w.writes = nil
			if _, err := w.desire(t, g); err != nil {
				t.Fatal(err)
			}
			var did []string
			for _, line := range w.writes {
				verb, _, _ := strings.Cut(line, " ")
				did = append(did, verb)
			}
			if got := strings.Join(did, " "); got != tc.writes {
				t.Errorf("%s: writes %q, want %q", tc.promise, got, tc.writes)
			}
			now := w.only(t)
			_, marked := now.Annotations[v1alpha1.AnnotationUnusedSince]
			a := w.artifacts.of(now)
			if marked || !a.Offers(now) || now.OwnerReferences[0].UID != g.UID {
				t.Errorf("%s: it is %+v", tc.promise, now)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// One that is being deleted is waited for, and another is made in its place.
func TestAnotherTakesTheName(t *testing.T) {
	w, g, h := newStaged(t)
	must(t, w.client.Delete(t.Context(), h)) // its finalizer holds it
	w.patience = 50 * time.Millisecond
	_, err := w.desire(t, g)
	if _, again := events.RetryDelay(err); !again {
		t.Errorf("it stays, and is tried again: %v", err)
	}
	if c, _ := w.staged(t); c.Reason != v1alpha1.ReasonStagingUnavailable || !strings.Contains(c.Message, h.Name) {
		t.Errorf("the status names it: %+v", c)
	}
	w.patience = 10 * time.Second
	done := make(chan error, 1)
	go func() {
		_, err := w.desire(t, g)
		done <- err
	}()
	must(t, w.client.Get(t.Context(), client.ObjectKeyFromObject(h), h))
	h.Finalizers = nil
	must(t, w.client.Update(t.Context(), h))
	must(t, <-done)
	if now := w.only(t); leaving(now) || !w.artifacts.of(now).Offers(now) {
		t.Errorf("another is there: %+v", now)
	}
}

// What source-controller had fetched, for an earlier Orkestra or because somebody has resumed a HelmChart, is served by us
// without a rollout, and the HelmRepository goes when nothing needs it.
func TestServeAll(t *testing.T) {
	group := newGroup("one")
	fetched := func(name, repository, digest string) *sourcev1.HelmChart {
		h := stage.HelmChart(group, "orkestra", stage.Piece{Chart: "shop", Version: "1.0.0", Digest: "sha256:" + name})
		h.Name, h.Spec.SourceRef.Name, h.ResourceVersion = name, repository, ""
		if digest != "" {
			h.Status.Artifact = &meta.Artifact{URL: "http://source-controller/shop.tgz", Digest: digest, Revision: "1.0.0"}
		}
		return h
	}
	repository := func(name string) *sourcev1.HelmRepository {
		r := stage.HelmRepository(group, "orkestra", stage.Staging{URL: "http://museum"})
		r.Name, r.Finalizers = name, nil
		return r
	}
	orphan := fetched("orphan", "alone", "sha256:03")
	orphan.OwnerReferences = nil
	foreign := fetched("foreign", "other", "sha256:04")
	foreign.Labels = nil
	notOurs := repository("theirs")
	notOurs.Labels = nil
	resumed := fetched("resumption", "group", "")
	resumed.Annotations = map[string]string{v1alpha1.AnnotationDigest: "sha256:05"}
	w := newWorld(t, fetched("first", "group", "sha256:01"), fetched("coming", "new", ""), orphan, foreign, resumed,
		repository("group"), repository("alone"), repository("new"), notOurs)
	for range 2 {
		must(t, w.serveAll(t.Context()))
	}
	slices.Sort(w.writes)
	if got := strings.Join(w.writes, ", "); got != "apply first, apply orphan, apply resumption, offer first, offer orphan, offer resumption" {
		t.Errorf("each is written once, and what never had an artifact is left to who stages it: %s", got)
	}
	var h sourcev1.HelmChart
	must(t, w.client.Get(t.Context(), client.ObjectKey{Namespace: "orkestra", Name: "first"}, &h))
	if !w.artifacts.of(&h).Offers(&h) || h.Status.Artifact.URL != "http://stager/group/shop/1.0.0/01.tgz" || h.OwnerReferences[0].UID != group.UID {
		t.Errorf("it is offered here, and goes with its group as before: %+v", h)
	}
	must(t, w.client.Get(t.Context(), client.ObjectKey{Namespace: "orkestra", Name: "orphan"}, &h))
	if len(h.OwnerReferences) > 0 || h.Status.Artifact.URL != "http://stager/alone/shop/1.0.0/03.tgz" {
		t.Errorf("so is one that nobody owns: %+v", h)
	}
	var left sourcev1.HelmRepositoryList
	must(t, w.client.List(t.Context(), &left))
	var names []string
	for _, r := range left.Items {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "new theirs" {
		t.Errorf("HelmRepositories that are left: %s", got)
	}
	now := metav1.Now()
	if o, err := stage.UnstructuredStatus(stage.Artifact{}.Status(&h, now)); err != nil || o.Object["spec"] != nil {
		t.Errorf("to say what it offers changes nothing else: %v, %v", o, err)
	}
}

// Where no source-controller runs, nobody else would take its finalizer off.
func TestServeAllLetsGo(t *testing.T) {
	w, _, h := newStaged(t)
	h.Finalizers = append(h.Finalizers, "example.org/other")
	must(t, w.client.Update(t.Context(), h))
	must(t, w.client.Delete(t.Context(), h))
	must(t, w.serveAll(t.Context()))
	if now := w.only(t); len(now.Finalizers) != 2 {
		t.Errorf("it has its time first: %v", now.Finalizers)
	}
	later := time.Now().Add(2 * serveEvery)
	w.now = func() time.Time { return later }
	must(t, w.serveAll(t.Context()))
	if now := w.only(t); len(now.Finalizers) != 1 || now.Finalizers[0] != "example.org/other" {
		t.Errorf("only that one is taken off: %v", now.Finalizers)
	}
}
