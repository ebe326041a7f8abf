package stager

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// tick is how often something is looked at that nobody tells us of.
const tick = 20 * time.Millisecond

// poll asks until the answer is yes, at most for the time given. It tells whether it was.
func poll(ctx context.Context, within time.Duration, ask func() (bool, error)) (yes bool, err error) {
	err = wait.PollUntilContextTimeout(ctx, tick, within, true, func(context.Context) (bool, error) { return ask() })
	if wait.Interrupted(err) {
		return false, ctx.Err()
	}
	return err == nil, err
}

// each calls do with 0 to n-1, and with at most parallel of them at a time.
func each(n int, do func(i int)) {
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	wg.Wait()
}
