package intake

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/intake/receive"
)

const hookToken = "a token of the tests"

// hooked is a cluster with Receivers in it, and one replica of what hears and does webhooks.
type hooked struct {
	client.WithWatch
	hooks *webhooks
	known *receivers
	end   *endpoint

	mu   sync.Mutex
	told []string
	// asked are the groups that were asked for, as they were written.
	asked []*v1alpha1.ApplicationGroup
}

func newHooked(t *testing.T, say func(context.Context, ...events.Fact) error, objects ...client.Object) *hooked {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	h := &hooked{WithWatch: fake.NewClientBuilder().WithScheme(s).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.ApplicationGroup{}, &v1alpha1.Receiver{}).
		WithIndex(&v1alpha1.ApplicationGroup{}, indexCharts, chartsOf).
		WithIndex(&v1alpha1.Receiver{}, indexTokens, tokenOf).Build()}
	quiet := slog.New(slog.DiscardHandler)
	h.hooks = &webhooks{client: h, live: h, namespace: "orkestra", log: quiet, now: time.Now,
		asked: func(_ context.Context, g *v1alpha1.ApplicationGroup) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.asked = append(h.asked, g)
		},
		tell: func(_, _ runtime.Object, kind, reason, message string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.told = append(h.told, kind+" "+reason+": "+message)
		}}
	h.known = &receivers{client: h, listeners: newListeners(), log: quiet}
	h.end = &endpoint{client: h, listeners: h.known.listeners, namespace: "orkestra", say: say, log: quiet, now: time.Now, inHand: semaphore.NewWeighted(maxInHand), bodyTime: readTime}
	if err := h.end.newMetrics(prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	if err := h.known.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

func receiver(change ...func(*v1alpha1.Receiver)) *v1alpha1.Receiver {
	r := &v1alpha1.Receiver{ObjectMeta: metav1.ObjectMeta{Namespace: "orkestra", Name: "ci", UID: "r", Generation: 1}}
	r.Spec = v1alpha1.ReceiverSpec{
		Type: v1alpha1.ReceiverGenericHMAC, SecretRef: v1alpha1.ReceiverSecretRef{Name: "token"},
		Groups:    v1alpha1.ReceiverGroups{Selector: &metav1.LabelSelector{}},
		Deploy:    &v1alpha1.ReceiverDeploy{Fields: []v1alpha1.ReceiverField{v1alpha1.ReceiverFieldVersion, v1alpha1.ReceiverFieldValues}},
		RateLimit: &v1alpha1.ReceiverRateLimit{Requests: 1_000_000, Period: metav1.Duration{Duration: time.Second}},
	}
	for _, c := range change {
		c(r)
	}
	return r
}

func tokens(namespace string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "token"}, Data: map[string][]byte{"token": []byte(hookToken)}}
}

func anyVersion(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[0].Spec.Chart.Version = "1.x" }

func (h *hooked) group(t *testing.T) *v1alpha1.ApplicationGroup {
	t.Helper()
	g := &v1alpha1.ApplicationGroup{}
	if err := h.Get(t.Context(), client.ObjectKey{Name: "shop"}, g); err != nil {
		t.Fatal(err)
	}
	return g
}

// post a body, signed, to the Receiver ci.
func (h *hooked) post(t testing.TB, body string) *httptest.ResponseRecorder {
	t.Helper()
	mac := hmac.New(sha256.New, []byte(hookToken))
	mac.Write([]byte(body))
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, receive.Path([]byte(hookToken), "ci", "orkestra"), strings.NewReader(body))
	req.Header.Set("X-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	w := httptest.NewRecorder()
	h.end.ServeHTTP(w, req)
	return w
}

// fact as the stream would tell it.
func fact(sequence uint64, p events.WebhookReceived) events.Fact {
	p.Namespace, p.Receiver, p.ReceiverUID, p.ReceiverGeneration = "orkestra", "ci", "r", 1
	if p.Delivery == "" {
		p.Delivery = fmt.Sprint("delivery-", sequence)
	}
	f := events.New(events.Rollout{}, p)
	f.Sequence, f.Time = sequence, time.Now()
	f.ID = f.EventID()
	return f
}

func (h *hooked) handle(t *testing.T, f events.Fact) error {
	t.Helper()
	return h.hooks.handle(t.Context(), f, f.Data.(events.WebhookReceived))
}

func pushed(version string) events.WebhookReceived {
	return events.WebhookReceived{Charts: []events.ChartVersion{{Registry: "charts.example.com", Name: "web", Version: version}}}
}

func version(sequence uint64, v string) events.Fact {
	return fact(sequence, events.WebhookReceived{Deploys: []events.DeployRequest{{Group: "shop", Application: "web", Version: v}}})
}

func TestAPushAsksForTheGroupsThatWantIt(t *testing.T) {
	staged := func(v string, generation int64) func(*v1alpha1.ApplicationGroup) {
		return func(g *v1alpha1.ApplicationGroup) {
			g.Status.Applications = []v1alpha1.ApplicationStatus{{Name: "web", ChartStatus: v1alpha1.ChartStatus{Version: v, Staged: true}}}
			g.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionStaged, Status: metav1.ConditionTrue, ObservedGeneration: generation}}
		}
	}
	elsewhere := func(r *v1alpha1.Receiver) { r.Namespace = "web" }
	for name, tt := range map[string]struct {
		group    []func(*v1alpha1.ApplicationGroup)
		receiver []func(*v1alpha1.Receiver)
		version  string
		want     bool
	}{
		"A range lets it in":            {group: []func(*v1alpha1.ApplicationGroup){anyVersion}, version: "1.2.0", want: true},
		"A range does not":              {group: []func(*v1alpha1.ApplicationGroup){anyVersion}, version: "2.0.0"},
		"A pre-release":                 {group: []func(*v1alpha1.ApplicationGroup){anyVersion}, version: "1.2.0-rc.1"},
		"The exact version, not there":  {version: "1.0.0", want: true},
		"The exact version, staged":     {group: []func(*v1alpha1.ApplicationGroup){staged("1.0.0", 1)}, version: "1.0.0"},
		"An older one":                  {group: []func(*v1alpha1.ApplicationGroup){anyVersion, staged("1.3.0", 1)}, version: "1.2.0"},
		"Older than for another spec":   {group: []func(*v1alpha1.ApplicationGroup){anyVersion, staged("1.3.0", 0)}, version: "1.2.0", want: true},
		"A suspended group":             {group: []func(*v1alpha1.ApplicationGroup){anyVersion, func(g *v1alpha1.ApplicationGroup) { g.Spec.Suspend = true }}, version: "1.2.0"},
		"Another group is selected":     {group: []func(*v1alpha1.ApplicationGroup){anyVersion}, version: "1.2.0", receiver: []func(*v1alpha1.Receiver){func(r *v1alpha1.Receiver) { r.Spec.Groups = v1alpha1.ReceiverGroups{Names: []string{"other"}} }}},
		"A dry run":                     {group: []func(*v1alpha1.ApplicationGroup){anyVersion}, version: "1.2.0", receiver: []func(*v1alpha1.Receiver){func(r *v1alpha1.Receiver) { r.Spec.DryRun = true }}},
		"The Receiver of the namespace": {group: []func(*v1alpha1.ApplicationGroup){anyVersion}, version: "1.2.0", receiver: []func(*v1alpha1.Receiver){elsewhere}, want: true},
		"The Receiver of another one":   {group: []func(*v1alpha1.ApplicationGroup){anyVersion}, version: "1.2.0", receiver: []func(*v1alpha1.Receiver){func(r *v1alpha1.Receiver) { r.Namespace = "db" }}},
		"Of one of the namespaces only": {group: []func(*v1alpha1.ApplicationGroup){anyVersion, func(g *v1alpha1.ApplicationGroup) {
			g.Spec.Applications = append(g.Spec.Applications, *g.Spec.Applications[0].DeepCopy())
			g.Spec.Applications[1].Name = "x"
			g.Spec.Applications[1].Spec.Release.TargetNamespace = "x"
		}}, version: "1.2.0", receiver: []func(*v1alpha1.Receiver){elsewhere}},
		"What an application is named so": {group: []func(*v1alpha1.ApplicationGroup){anyVersion, func(g *v1alpha1.ApplicationGroup) {
			g.Spec.Applications[0].Spec.Chart.URL = "oci://CHARTS.example.com:443/"
		}}, version: "1.2.0", want: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := receiver(tt.receiver...)
			h := newHooked(t, nil, shop(tt.group...), r, tokens(r.Namespace))
			f := fact(1, pushed(tt.version))
			p := f.Data.(events.WebhookReceived)
			p.Namespace = r.Namespace
			if err := h.hooks.handle(t.Context(), f, p); err != nil {
				t.Fatal(err)
			}
			g := h.group(t)
			if got := g.Annotations[v1alpha1.AnnotationRequestedAt] != ""; got != tt.want {
				t.Errorf("asked for: %t, want %t", got, tt.want)
			}
			if tt.want && !strings.Contains(g.Annotations[v1alpha1.AnnotationRequestedBy], f.EventID()) {
				t.Errorf("the group says for which event: got %s", g.Annotations[v1alpha1.AnnotationRequestedBy])
			}
			if tt.want != (len(h.asked) == 1) || tt.want && h.asked[0].Annotations[v1alpha1.AnnotationRequestedAt] != g.Annotations[v1alpha1.AnnotationRequestedAt] {
				t.Errorf("to be announced at once, as it was written: %+v", h.asked)
			}
			if said := len(h.told) > 0; said != (tt.want || name == "A dry run") {
				t.Errorf("told: %q", h.told)
			}
		})
	}
}

// A burst: the first is done at once, those that were heard of before are covered by it,
// and those that come later wait, and are one request more.
func TestABurstIsTwoRequests(t *testing.T) {
	h := newHooked(t, nil, shop(anyVersion), receiver(), tokens("orkestra"))
	now := time.Now()
	h.hooks.now = func() time.Time { return now }
	late := fact(1, pushed("1.1.0"))
	late.Time = now.Add(-time.Millisecond)
	first := fact(2, pushed("1.1.1"))
	first.Time = now
	h.hooks.hear(receive.Mark{Sequence: 3, Time: now.Add(time.Microsecond)})
	if err := h.handle(t, first); err != nil {
		t.Fatal(err)
	}
	asked := h.group(t).Annotations[v1alpha1.AnnotationRequestedAt]
	if asked == "" {
		t.Fatal("the first of a burst is done at once")
	}
	if err := h.handle(t, late); err != nil {
		t.Fatalf("what was said before is covered: %v", err)
	}
	var waiting []events.Fact
	for i := range uint64(50) {
		f := fact(10+i, pushed("1.1.2"))
		f.Time = now.Add(time.Duration(i+1) * time.Millisecond)
		waiting = append(waiting, f)
		want := receive.Spacing
		if i > 0 { // what the first will ask for covers it
			want = receive.Settling
		}
		if d, ok := events.RetryDelay(h.handle(t, f)); !ok || d <= 0 || d > want || i > 0 && d <= receive.Spacing {
			t.Fatalf("what comes right after waits for its turn: %v", d)
		}
	}
	now = now.Add(receive.Spacing)
	if d, ok := events.RetryDelay(h.handle(t, waiting[0])); !ok || d != receive.Spacing {
		t.Fatalf("a rollout that is under way is not cut short: %v", d)
	}
	g := h.group(t)
	g.Status.LastHandledReconcileAt = asked
	if err := h.Status().Update(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	for _, f := range waiting {
		if err := h.handle(t, f); err != nil {
			t.Fatal(err)
		}
	}
	if len(h.told) != 2 {
		t.Errorf("two requests: got %q", h.told)
	}
	// The stream was lost: its sequences begin again.
	now = now.Add(time.Minute)
	f := fact(1, pushed("1.1.3"))
	f.Time = now
	if err := h.handle(t, f); err != nil || len(h.told) != 3 {
		t.Errorf("what comes after the loss of the stream is news: %v %q", err, h.told)
	}
}

func TestDeployRequestsKeepTheirOrder(t *testing.T) {
	h := newHooked(t, nil, shop(anyVersion), receiver(), tokens("orkestra"))
	is := func(want string) {
		t.Helper()
		if got := h.group(t).Spec.Applications[0].Spec.Chart.Version; got != want {
			t.Errorf("the version is %s, want %s", got, want)
		}
	}
	older, newer := version(5, "1.0.1"), version(6, "1.0.2")
	for range 2 {
		for _, f := range []events.Fact{newer, older} {
			if err := h.handle(t, f); err != nil {
				t.Fatal(err)
			}
			is("1.0.2")
		}
	}
	if !strings.Contains(h.group(t).Annotations[v1alpha1.AnnotationRequestedBy], newer.EventID()) {
		t.Error("the group does not say for which event it was changed")
	}
	// As it is already: nothing is to be written into the spec, and an older one is late all the same.
	if err := h.handle(t, version(9, "1.0.2")); err != nil {
		t.Fatal(err)
	}
	if err := h.handle(t, version(8, "1.0.8")); err != nil {
		t.Fatal(err)
	}
	is("1.0.2")
	if len(h.told) != 1 {
		t.Errorf("the one change is told: %q", h.told)
	}
	// Somebody changed it by hand since: what is told again does not undo that.
	g := h.group(t)
	g.Spec.Applications[0].Spec.Chart.Version = "3.0.0"
	if err := h.Update(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if err := h.handle(t, version(9, "1.0.2")); err != nil {
		t.Fatal(err)
	}
	is("3.0.0")
}

func TestRefusedDeployRequestsDoNotStopTheOthers(t *testing.T) {
	pinned := func(g *v1alpha1.ApplicationGroup) {
		anyVersion(g)
		app := g.Spec.Applications[0].DeepCopy()
		app.Name, app.Spec.Chart.Digest = "pinned", "sha256:"+strings.Repeat("a", 64)
		g.Spec.Applications = append(g.Spec.Applications, *app)
	}
	h := newHooked(t, nil, shop(pinned), receiver(), tokens("orkestra"))
	f := fact(1, events.WebhookReceived{Deploys: []events.DeployRequest{
		{Group: "another", Application: "web", Version: "1.0.1"},
		{Group: "shop", Application: "none", Version: "1.0.1"},
		{Group: "shop", Application: "pinned", Version: "1.0.1"},
		{Group: "shop", Application: "web", ValuesSecret: "delivery-gone"},
		{Group: "shop", Application: "web", Version: "1.0.1"},
	}})
	err := h.handle(t, f)
	if events.TerminalReason(err) != reasonDeployRefused {
		t.Errorf("got %v", err)
	}
	if got := h.group(t).Spec.Applications[0].Spec.Chart.Version; got != "1.0.1" {
		t.Errorf("the last request is done: the version is %s", got)
	}
	told := strings.Join(h.told, "\n")
	for _, want := range []string{"spec.groups", `no application "none"`, "chart.digest", "values are gone", "Normal Deployed: wrote version 1.0.1"} {
		if !strings.Contains(told, want) {
			t.Errorf("nobody was told %q:\n%s", want, told)
		}
	}
}

func TestValuesGoByASecret(t *testing.T) {
	var said []events.Fact
	h := newHooked(t, func(_ context.Context, facts ...events.Fact) error { said = append(said, facts...); return nil },
		shop(anyVersion), receiver(), tokens("orkestra"))
	const body = `{"id":"7","group":"shop","application":"web","values":{"password":"hunter2","unset":null}}`
	for range 2 {
		if w := h.post(t, body); w.Code != http.StatusAccepted {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
	}
	text, err := json.Marshal(said[0].Data)
	if err != nil || strings.Contains(string(text), "hunter2") || said[0].EventID() != said[1].EventID() {
		t.Fatalf("an event has no values, and the same delivery is the same event: %s", text)
	}
	p := said[0].Data.(events.WebhookReceived)
	kept := &corev1.Secret{}
	if err := h.Get(t.Context(), client.ObjectKey{Namespace: "orkestra", Name: p.Deploys[0].ValuesSecret}, kept); err != nil {
		t.Fatal(err)
	}
	if kept.Immutable == nil || !*kept.Immutable || len(kept.OwnerReferences) != 1 || strings.Contains(h.hooks.namespace, "hunter2") {
		t.Errorf("got %+v", kept.ObjectMeta)
	}
	f := fact(1, p)
	for range 2 {
		if err := h.handle(t, f); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(h.group(t).Spec.Applications[0].Spec.Release.Values.Raw); got != `{"password":"hunter2","unset":null}` {
		t.Errorf("got %s", got)
	}
	if err := h.Get(t.Context(), client.ObjectKeyFromObject(kept), kept); !apierrors.IsNotFound(err) {
		t.Errorf("the values are kept on: %v", err)
	}
	if strings.Contains(strings.Join(h.told, ""), "hunter2") {
		t.Errorf("got %q", h.told)
	}
}

func TestTheSweepTakesWhatIsOld(t *testing.T) {
	old := func(name string, age time.Duration, kind corev1.SecretType) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "orkestra", Name: name, UID: "s", CreationTimestamp: metav1.NewTime(time.Now().Add(-age)),
			Labels: map[string]string{v1alpha1.LabelDelivery: "r"}}, Type: kind}
	}
	h := newHooked(t, nil, old("old", 2*valuesTime, v1alpha1.SecretTypeDelivery), old("new", time.Minute, v1alpha1.SecretTypeDelivery), old("other", 2*valuesTime, corev1.SecretTypeOpaque))
	if err := h.hooks.sweepOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left corev1.SecretList
	if err := h.List(t.Context(), &left); err != nil || len(left.Items) != 2 {
		t.Errorf("%d are left, want the new one and the other: %v", len(left.Items), err)
	}
}

func TestAReceiverThatIsGoneIsSuperseded(t *testing.T) {
	for name, objects := range map[string][]client.Object{
		"Deleted":   {},
		"Another":   {receiver(func(r *v1alpha1.Receiver) { r.UID = "another" })},
		"Suspended": {receiver(func(r *v1alpha1.Receiver) { r.Spec.Suspend = true })},
	} {
		h := newHooked(t, nil, append(objects, shop(anyVersion), tokens("orkestra"))...)
		if err := h.handle(t, fact(1, pushed("1.2.0"))); !events.IsSuperseded(err) || h.group(t).Annotations != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestConflictsAreReadAgain(t *testing.T) {
	h := newHooked(t, nil, shop(anyVersion), receiver(), tokens("orkestra"))
	conflicts := 3
	conflict := func() error {
		if conflicts--; conflicts >= 0 {
			return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("applicationgroups").GroupResource(), "shop", nil)
		}
		return nil
	}
	h.hooks.client = interceptor.NewClient(h, interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if err := conflict(); err != nil {
				return err
			}
			return c.Patch(ctx, o, p, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			if err := conflict(); err != nil {
				return err
			}
			return c.Update(ctx, o, opts...)
		},
	})
	for _, f := range []events.Fact{fact(1, pushed("1.2.0")), version(2, "1.4.0")} {
		conflicts = 3
		if err := h.handle(t, f); err != nil {
			t.Fatal(err)
		}
	}
	if g := h.group(t); g.Annotations[v1alpha1.AnnotationRequestedAt] == "" || g.Spec.Applications[0].Spec.Chart.Version != "1.4.0" {
		t.Errorf("both are done: %+v", g.Annotations)
	}
}
