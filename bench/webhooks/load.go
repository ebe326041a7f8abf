package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync"
	"time"
)

// answer to a delivery.
type answer struct {
	// due is when it was to be sent, done when its answer had been read.
	due, done time.Time
	// status is 0 where there was no answer.
	status int
	// id of the event, where it was taken in.
	id string
}

// load sends deliveries at a constant rate to the targets in turn, over connections that
// are kept, and waits for all answers. What is answered late delays nothing that comes after
// it, and what is sent late counts from when it was due.
func load(ctx context.Context, targets []string, deliveries []delivery, rate int) ([]answer, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: 1024, MaxIdleConns: 2048, IdleConnTimeout: time.Minute}
	defer transport.CloseIdleConnections()
	sender := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	answers, errs := make([]answer, len(deliveries)), make([]error, len(deliveries))
	var wg sync.WaitGroup
	begin, step := time.Now().Add(10*time.Millisecond), time.Second/time.Duration(rate)
	for i := range deliveries {
		due := begin.Add(time.Duration(i) * step)
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				wg.Wait()
				return nil, ctx.Err()
			}
		}
		wg.Go(func() {
			answers[i], errs[i] = send(ctx, sender, targets[i%len(targets)], deliveries[i])
			answers[i].due = due
		})
	}
	wg.Wait()
	return answers, errors.Join(errs...)
}

func send(ctx context.Context, sender *http.Client, target string, d delivery) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target+d.path, bytes.NewReader(d.body))
	if err != nil {
		return answer{}, err
	}
	req.Header = d.header
	resp, err := sender.Do(req)
	if err != nil {
		// A figure, and no end of the run.
		log.Print("no answer: ", err)
		return answer{done: time.Now()}, ctx.Err()
	}
	body, err := io.ReadAll(resp.Body)
	a := answer{done: time.Now(), status: resp.StatusCode}
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return a, fmt.Errorf("reading the answer to a delivery: %w", err)
	}
	var said struct{ ID string }
	if err := json.Unmarshal(body, &said); err != nil {
		return a, fmt.Errorf("reading the answer %q: %w", body, err)
	}
	a.id = said.ID
	return a, nil
}
