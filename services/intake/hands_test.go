package intake

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events/eventstest"
	"orkestra.dev/services/intake/receive"
)

// Who sends to one Receiver as many bodies as there is room for, and never ends them, leaves
// room for another.
func TestAFloodLeavesRoomForOthers(t *testing.T) {
	other := receiver(func(r *v1alpha1.Receiver) { r.Name, r.UID, r.Spec.SecretRef.Name = "flooded", "f", "another" })
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "orkestra", Name: "another"}, Data: map[string][]byte{"token": []byte(hookToken)}}
	h := newHooked(t, eventstest.Bus(t, eventstest.Single(t).URL(), "intake").Say, receiver(), other, tokens("orkestra"), secret)
	flooded := receive.Path([]byte(hookToken), "flooded", "orkestra")
	at := h.known.listeners.at(flooded)

	var running sync.WaitGroup
	var endless []*io.PipeWriter
	for range maxOfOne / receive.MaxBody {
		body, sender := io.Pipe()
		endless = append(endless, sender)
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, flooded, body)
		req.ContentLength = -1
		running.Go(func() { h.end.ServeHTTP(httptest.NewRecorder(), req) })
	}
	full := func() bool {
		if at.inHand.TryAcquire(1) {
			at.inHand.Release(1)
			return false
		}
		return true
	}
	eventstest.Eventually(t, 10*time.Second, "the flooded Receiver to have no room", full)
	w := httptest.NewRecorder()
	h.end.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, flooded, http.NoBody))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more is to come again: got %d %s", w.Code, w.Body)
	}
	if w := h.post(t, `{"id":"1","reconcile":true}`); w.Code != http.StatusAccepted {
		t.Errorf("the other Receiver has room: got %d %s", w.Code, w.Body)
	}
	for _, sender := range endless {
		if err := sender.Close(); err != nil {
			t.Error(err)
		}
	}
	running.Wait()
	if full() || !h.end.inHand.TryAcquire(maxInHand) {
		t.Error("room that was taken is given back")
	}
}
