package stack

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"
)

const (
	// tendEvery is how often it is looked whether ChartMuseum runs.
	tendEvery = 250 * time.Millisecond
	// crashLines are looked through for museumCrash: what comes after it is one stack, or those of all goroutines.
	crashLines = 500
	// museumCrash is how the log of ChartMuseum v0.13.1 says that two requests met in a map of its cache: saveCacheEntry
	// of pkg/chartmuseum/server/multitenant/cache.go writes it without the lock, after each push.
	museumCrash = "fatal error: concurrent map"
)

// Tend starts ChartMuseum again where it has crashed by that fault of its own, as a kubelet would, until ctx ends. Whatever
// else ends stays so: it was ended by somebody, or is a fault to be seen.
func (s *Stack) Tend(ctx context.Context) {
	for {
		if again, err := s.tend(ctx); err != nil {
			say(s.log, "looking after chartmuseum: %v", err)
		} else if again {
			say(s.log, "%-24s crashed (%s), and was started again", "chartmuseum", museumCrash)
		}
		if pause(ctx, tendEvery) != nil {
			return
		}
	}
}

// tend tells whether it had to start ChartMuseum again.
func (s *Stack) tend(ctx context.Context) (again bool, err error) {
	p, err := s.process("chartmuseum")
	if err != nil {
		return false, err
	}
	r, err := p.read()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	running, err := r.Started.running()
	if err != nil || running {
		return false, err
	}
	last, err := tail(p.LogFile(), r.LogOffset, crashLines)
	if err != nil || !slices.ContainsFunc(last, func(line string) bool { return strings.HasPrefix(line, museumCrash) }) {
		return false, err
	}
	return true, p.start(ctx, r.Spec)
}
