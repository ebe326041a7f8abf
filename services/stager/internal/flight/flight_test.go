package flight

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestGroup(t *testing.T) {
	var f Group[int]
	begun, release := make(chan struct{}), make(chan struct{})
	var runs atomic.Int32
	errand := func(ctx context.Context) (int, error) {
		runs.Add(1)
		close(begun)
		select {
		case <-release:
			return 1, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	first, cancel := context.WithCancel(t.Context())
	results := make(chan error, 2)
	go func() {
		_, err := f.Do(first, "k", time.Minute, errand)
		results <- err
	}()
	<-begun
	go func() {
		v, err := f.Do(t.Context(), "k", time.Minute, errand)
		if err == nil && v != 1 {
			err = fmt.Errorf("got %d", v)
		}
		results <- err
	}()
	waiting := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			f.mu.Lock()
			c := f.by["k"]
			there := c == nil && n == 0 || c != nil && c.waiting == n
			f.mu.Unlock()
			if there {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("there are not %d waiting", n)
			}
		}
	}
	waiting(2)
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("who leaves is told so: %v", err)
	}
	close(release)
	if err := <-results; err != nil || runs.Load() != 1 {
		t.Errorf("who stays gets the one result: %v, %d runs", err, runs.Load())
	}
	waiting(0)

	gone := make(chan struct{})
	begun = make(chan struct{})
	last, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	_, err := f.Do(last, "k", time.Minute, func(ctx context.Context) (int, error) {
		close(begun)
		<-ctx.Done()
		close(gone)
		return 0, ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the last one leaves: %v", err)
	}
	<-gone // the errand is called off
	if _, err := f.Do(t.Context(), "k", time.Minute, func(context.Context) (int, error) { panic("hostile") }); err == nil || !strings.Contains(err.Error(), "hostile") {
		t.Errorf("a panic is an error: %v", err)
	}
}
