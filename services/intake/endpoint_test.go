package intake

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
	"orkestra.dev/services/intake/receive"
)

func TestAnswers(t *testing.T) {
	var away bool
	say := func(ctx context.Context, _ ...events.Fact) error {
		if away {
			return context.DeadlineExceeded
		}
		return nil
	}
	limited := receiver(func(r *v1alpha1.Receiver) {
		r.Spec.RateLimit = &v1alpha1.ReceiverRateLimit{Requests: 3, Period: metav1.Duration{Duration: time.Hour}}
	})
	h := newHooked(t, say, limited, tokens("orkestra"))
	const body = `{"id":"1","reconcile":true}`
	if w := h.post(t, body); w.Code != http.StatusAccepted || !strings.Contains(w.Body.String(), `"id":"webhook.received/r/1"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	away = true
	if w := h.post(t, body); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("while the stream is away: got %d %s", w.Code, w.Body)
	}
	away = false
	for range 5 {
		if w := h.post(t, `{`); w.Code != http.StatusBadRequest {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	}
	if w := h.post(t, body); w.Code != http.StatusAccepted {
		t.Errorf("what is refused does not count: got %d %s", w.Code, w.Body)
	}
	if w := h.post(t, body); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("past the limit: got %d %s", w.Code, w.Body)
	}
	if w := h.post(t, strings.Repeat(" ", receive.MaxBody+1)); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: got %d %s", w.Code, w.Body)
	}
	for path, want := range map[string]int{"/hook/" + strings.Repeat("0", 64): 404, "/": 404, receive.Path([]byte(hookToken), "ci", "orkestra"): 405} {
		w := httptest.NewRecorder()
		h.end.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("GET %s: got %d, want %d", path, w.Code, want)
		}
	}
}

func TestTheStatusOfAReceiver(t *testing.T) {
	for name, tt := range map[string]struct {
		objects []client.Object
		reason  string
	}{
		"Heard":         {[]client.Object{receiver(), tokens("orkestra")}, v1alpha1.ReasonListening},
		"No Secret":     {[]client.Object{receiver(), tokens("another")}, v1alpha1.ReasonTokenMissing},
		"A short token": {[]client.Object{receiver(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "orkestra", Name: "token"}, Data: map[string][]byte{"token": []byte("short")}}}, v1alpha1.ReasonTokenMissing},
		"A bad spec":    {[]client.Object{receiver(func(r *v1alpha1.Receiver) { r.Spec.Type = "pigeon" }), tokens("orkestra")}, v1alpha1.ReasonInvalidSpec},
	} {
		h := newHooked(t, nil, tt.objects...)
		key := client.ObjectKey{Namespace: "orkestra", Name: "ci"}
		if _, err := h.known.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
			t.Fatal(err)
		}
		r := &v1alpha1.Receiver{}
		if err := h.Get(t.Context(), key, r); err != nil {
			t.Fatal(err)
		}
		c := apimeta.FindStatusCondition(r.Status.Conditions, v1alpha1.ConditionReady)
		heard := tt.reason == v1alpha1.ReasonListening
		if c == nil || c.Reason != tt.reason || (c.Status == metav1.ConditionTrue) != heard || (r.Status.WebhookPath != "") != heard || r.Status.ObservedGeneration != 1 {
			t.Errorf("%s: got %+v", name, r.Status)
		}
		if got := h.known.listeners.at(receive.Path([]byte(hookToken), "ci", "orkestra")); (got != nil) != heard {
			t.Errorf("%s: heard: %t", name, got != nil)
		}
		if err := h.Delete(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := h.known.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil || len(h.known.listeners.byPath) != 0 {
			t.Errorf("%s: one that is gone is not heard: %v", name, err)
		}
	}
}

// The limit of a Receiver outlives a change of it that is not of the limit.
func TestAChangeDoesNotRefillTheLimit(t *testing.T) {
	l := newListeners()
	key := client.ObjectKey{Name: "ci"}
	make2 := func() *listener {
		return &listener{receiver: receiver(), limit: rate.NewLimiter(1, 2), inHand: semaphore.NewWeighted(maxOfOne)}
	}
	l.put(key, "/a", make2())
	l.at("/a").limit.AllowN(time.Now(), 2)
	l.put(key, "/b", make2())
	if l.at("/a") != nil || l.at("/b").limit.Allow() {
		t.Error("the path is another, the limit is used up still")
	}
}

// From the delivery to the group, over a real stream: the same delivery to two replicas is
// one event, and is done once.
func TestOverARealStream(t *testing.T) {
	nats := eventstest.Single(t)
	first, second := eventstest.Bus(t, nats.URL(), "intake"), eventstest.Bus(t, nats.URL(), "intake")
	h := newHooked(t, first.Say, shop(anyVersion), receiver(), tokens("orkestra"))
	other := &endpoint{client: h, listeners: h.known.listeners, namespace: "orkestra", say: second.Say, log: h.end.log, now: time.Now, inHand: semaphore.NewWeighted(maxInHand), total: h.end.total, took: h.end.took}
	own := h.end
	for i := range 10 {
		h.end = own
		if i%2 == 1 {
			h.end = other
		}
		if w := h.post(t, `{"id":"once","group":"shop","application":"web","version":"1.7.0"}`); w.Code != http.StatusAccepted {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
	}
	h.end = own
	nats.Stop(0)
	if w := h.post(t, `{"id":"away","reconcile":true}`); w.Code != http.StatusServiceUnavailable {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	nats.Start(0)
	eventstest.Eventually(t, 20*time.Second, "the delivery to be taken in again", func() bool {
		return h.post(t, `{"id":"away","reconcile":true}`).Code == http.StatusAccepted
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var handled sync.Map
	go func() {
		done <- first.Consume(ctx, "intake", 2, func(ctx context.Context, f events.Fact) ([]events.Fact, error) {
			handled.Store(f.EventID(), true)
			return nil, h.hooks.handle(ctx, f, f.Data.(events.WebhookReceived))
		})
	}()
	eventstest.Eventually(t, 20*time.Second, "both deliveries to be done", func() bool {
		g := h.group(t)
		return g.Spec.Applications[0].Spec.Chart.Version == "1.7.0" && g.Annotations[v1alpha1.AnnotationRequestedAt] != ""
	})
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	n := 0
	handled.Range(func(any, any) bool { n++; return true })
	if n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

// A sender has its time for a body, from when its request came: a connection that was
// opened in advance and said nothing until then has it too.
func TestABodyHasItsTime(t *testing.T) {
	h := newHooked(t, func(context.Context, ...events.Fact) error { return nil }, receiver(), tokens("orkestra"))
	h.end.bodyTime = 200 * time.Millisecond
	server := httptest.NewUnstartedServer(nil)
	server.Config = h.end.server()
	server.Start()
	defer server.Close()
	for name, tt := range map[string]struct {
		before, within time.Duration
		want           string
	}{
		"A connection that waited": {before: 2 * h.end.bodyTime, want: "401 Unauthorized"},
		"A body that stops":        {within: 2 * h.end.bodyTime, want: "400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
			}()
			<-time.After(tt.before) // it says nothing, that is its part
			path := receive.Path([]byte(hookToken), "ci", "orkestra")
			if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{", path); err != nil {
				t.Fatal(err)
			}
			<-time.After(tt.within)
			if _, err := conn.Write([]byte("}")); err != nil {
				t.Fatal(err)
			}
			answer, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.Contains(answer, tt.want) {
				t.Errorf("got %q %v, want %s", answer, err, tt.want)
			}
		})
	}
}
