package intake

import (
	"context"
	"net/http"
	"time"

	"orkestra.dev/services/intake/receive"
)

const (
	// maxInHand bounds the deliveries that are read and stored at a time, in bytes, and
	// maxOfOne those of one Receiver: who is flooded leaves room for the others.
	maxInHand = 64 << 20
	maxOfOne  = maxInHand / 4
	// leastInHand is what a delivery counts at least, which is about what a connection and
	// an event take: 2,048 small ones may be in hand, 512 of one Receiver.
	leastInHand = 32 << 10
	// handWait is how long a delivery waits for its turn.
	handWait = time.Second
)

// hold takes room for a delivery, that of its Receiver first. It is false where there was
// none in time.
func (e *endpoint) hold(req *http.Request, at *listener) (letGo func(), ok bool) {
	ctx, cancel := context.WithTimeout(req.Context(), handWait)
	defer cancel()
	size := inHand(req.ContentLength)
	if at.inHand.Acquire(ctx, size) != nil {
		return nil, false
	}
	if e.inHand.Acquire(ctx, size) != nil {
		at.inHand.Release(size)
		return nil, false
	}
	return func() {
		e.inHand.Release(size)
		at.inHand.Release(size)
	}, true
}

// inHand is what a delivery counts whose body has a length, which is negative where that
// is not known.
func inHand(length int64) int64 {
	if length < 0 || length > receive.MaxBody {
		return receive.MaxBody
	}
	return max(length, leastInHand)
}
