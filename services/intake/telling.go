package intake

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// toldAtOnce is how many Kubernetes events of a Receiver are made at once, and
	// toldASecond how many as time goes on. Each is a write of the API server, and a busy
	// registry would fill etcd with what its own log, and the stream, have already.
	toldAtOnce  = 25
	toldASecond = 1
	// maxTelling is of how many Receivers that is remembered; beyond it is begun anew.
	maxTelling = 1000
)

// telling bounds the Kubernetes events of each Receiver, as client-go's recorders do.
type telling struct {
	mu     sync.Mutex
	limits map[types.UID]*rate.Limiter
}

// may says whether a Receiver is to have one more event.
func (t *telling) may(receiver types.UID, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limits == nil || len(t.limits) >= maxTelling {
		t.limits = map[types.UID]*rate.Limiter{}
	}
	if t.limits[receiver] == nil {
		t.limits[receiver] = rate.NewLimiter(toldASecond, toldAtOnce)
	}
	return t.limits[receiver].AllowN(now, 1)
}
