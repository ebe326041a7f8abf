package intake

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
	"orkestra.dev/services/intake/receive"
)

// A thousand deliveries in a second: none is answered with 2xx that the stream does not
// have, and memory stays flat. What a machine cannot store is refused. How fast it is, is
// for bench/webhooks to say.
func TestAThousandDeliveriesInASecond(t *testing.T) {
	const (
		rate    = 1000
		seconds = 1
		step    = 10 * time.Millisecond
		// grown is how much the heap in use may have grown at the end, which is far less
		// than what was sent.
		grown = 64 << 20
	)
	nats := eventstest.Single(t)
	bus := eventstest.Bus(t, nats.URL(), "intake")
	h := newHooked(t, bus.Say, receiver(), tokens("orkestra"))
	server := httptest.NewServer(h.end)
	defer server.Close()
	url := server.URL + receive.Path([]byte(hookToken), "ci", "orkestra")
	sender := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, MaxConnsPerHost: 256}}

	var mu sync.Mutex
	accepted := map[string]bool{}
	var took []time.Duration
	var refused, failed atomic.Int64
	padding := strings.Repeat(" ", 8<<10)
	send := func(i int) {
		begin := time.Now()
		body := fmt.Sprintf(`{"id":"load-%d","charts":[{"registry":"charts.example.com","name":"web","version":"1.0.%d"}]}%s`, i, i, padding)
		mac := hmac.New(sha256.New, []byte(hookToken))
		mac.Write([]byte(body))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("X-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
		resp, err := sender.Do(req)
		if err != nil {
			failed.Add(1)
			return
		}
		answer := map[string]string{}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		if _, drained := io.Copy(io.Discard, resp.Body); err != nil || drained != nil {
			t.Error(err, drained)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		switch resp.StatusCode {
		case http.StatusAccepted:
			accepted[answer["id"]] = true
			took = append(took, time.Since(begin))
		case http.StatusServiceUnavailable:
			refused.Add(1)
		default:
			t.Errorf("got %s %v", resp.Status, answer)
		}
	}

	before := heap()
	var wg sync.WaitGroup
	tick := time.NewTicker(step)
	defer tick.Stop()
	begin := time.Now()
	perStep := int(rate * step / time.Second)
	for i := 0; i < rate*seconds; i += perStep {
		for j := range perStep {
			wg.Go(func() { send(i + j) })
		}
		<-tick.C
	}
	wg.Wait()
	lasted := time.Since(begin)
	after := heap()

	stored := map[string]bool{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := bus.Follow(ctx, events.FollowOptions{}, func(f events.Fact, _ []byte) error {
		stored[f.EventID()] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for id := range accepted {
		if !stored[id] {
			lost++
		}
	}
	slices.Sort(took)
	if len(took) == 0 {
		t.Fatal("nothing was taken in")
	}
	t.Logf("%d sent in %s: %d taken in, %d refused with 503, %d failed; answers p50 %s, p99 %s; heap %d KiB before, %d KiB after",
		rate*seconds, lasted.Round(time.Millisecond), len(accepted), refused.Load(), failed.Load(),
		took[len(took)/2], took[len(took)*99/100], before>>10, after>>10)
	if lost > 0 {
		t.Errorf("%d deliveries were answered with 202, and the stream does not have them", lost)
	}
	if after > before+grown {
		t.Errorf("the heap has grown from %d to %d bytes", before, after)
	}
}

// heap in use, in bytes, when what can be collected is.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
