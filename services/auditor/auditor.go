// Package auditor writes all that is said on the stream of events to a chain of
// records that shows what was altered, removed or lost, and hands the records on
// to other sinks. It changes nothing on the stream and needs no Kubernetes.
package auditor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"orkestra.dev/pkg/events"
	"orkestra.dev/services/auditor/record"
)

const (
	// batch is how many records of a backlog are written between two waits for the
	// disk. What is said live is on the disk one by one.
	batch = 256
	// longestPause between two attempts to read the stream or to write.
	longestPause = 5 * time.Second

	lockName = "auditor.lock"
)

// stream is what the auditor needs of the bus.
type stream interface {
	EventStream(ctx context.Context) (events.StreamState, error)
	Read(ctx context.Context, created time.Time, from uint64, fn func(events.Stored) error) error
}

// auditor writes a stream to a trail.
type auditor struct {
	stream   stream
	dir      string
	rotation rotation
	sinks    []*sink
	log      *slog.Logger
	metrics  *metrics
	now      func() time.Time
	progress *progress

	trail *trail
}

// run writes until ctx is done. It waits for a server or a disk that is away. The
// error says that the folder belongs to another auditor or that the trail is not
// as it was written.
func (a *auditor) run(ctx context.Context) (err error) {
	unlock, err := lock(a.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := a.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.trail.close()) }()

	group, ctx := errgroup.WithContext(ctx)
	for _, s := range a.sinks {
		group.Go(func() error { return s.run(ctx) })
	}
	group.Go(func() error { return a.follow(ctx) })
	return group.Wait()
}

// lock takes the folder for this process; the kernel gives it back at its end,
// whatever that is.
func lock(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the trail: %w", err)
	}
	l := flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))
	switch ok, err := l.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	case !ok:
		return nil, fmt.Errorf("another auditor writes to %s; give each a folder of its own", dir)
	}
	return l.Close, nil
}

func (a *auditor) open() error {
	t, err := openTrail(a.dir, a.rotation, a.now, a.progress)
	if err != nil {
		return err
	}
	a.trail = t
	a.metrics.position.Set(float64(t.position.Sequence))
	return nil
}

// follow reads until ctx is done, and begins again after each trouble. The error
// says that the trail is not as it was written.
func (a *auditor) follow(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		before := a.trail.head
		err := a.mended()
		if _, bad := errors.AsType[*record.Bad](err); bad {
			return err
		}
		if err == nil {
			err = a.read(ctx)
		}
		if a.trail.head != before {
			attempt = 1
		}
		if ctx.Err() == nil {
			a.log.WarnContext(ctx, "reading the stream again", "attempt", attempt, "sequence", a.trail.position.Sequence, "error", err)
		}
		if !pause(ctx, min(time.Duration(attempt)*200*time.Millisecond, longestPause)) {
			return nil
		}
	}
}

// mended opens a broken trail again.
func (a *auditor) mended() error {
	if !a.trail.broken {
		return nil
	}
	if err := a.trail.close(); err != nil {
		a.log.Warn("closing the trail", "error", err)
	}
	return a.open()
}

// read writes what the stream holds after the position, until ctx is done or
// something is in the way.
func (a *auditor) read(ctx context.Context) error {
	s, err := a.stream.EventStream(ctx)
	if err != nil {
		return err
	}
	found := record.Stream(s)
	if err := a.write(a.trail.position.Resume(found, a.now())); err != nil {
		return err
	}
	a.metrics.lag.Set(float64(s.Last - min(s.Last, a.trail.position.Sequence)))
	if err := a.trail.sync(); err != nil {
		return err
	}
	// The last message is read once more, to see that it is still the same.
	err = a.stream.Read(ctx, s.Created, a.trail.position.Sequence, a.hear)
	if errors.Is(err, record.ErrWentBack) {
		err = errors.Join(err, a.write(a.trail.position.Again(found, a.now())))
	}
	return errors.Join(err, a.trail.sync())
}

func (a *auditor) hear(m events.Stored) error {
	entries, err := a.trail.position.Next(record.Message{
		Sequence: m.Sequence, Time: m.Time, Subject: m.Subject, Event: m.Event, Raw: m.Raw,
	}, a.now())
	if err != nil {
		return err
	}
	if err := a.write(entries); err != nil {
		return err
	}
	a.metrics.lag.Set(float64(m.Pending))
	if m.Pending == 0 || a.trail.unsynced >= batch {
		return a.trail.sync()
	}
	return nil
}

func (a *auditor) write(entries []record.Entry) error {
	for _, e := range entries {
		if err := a.trail.append(e); err != nil {
			return err
		}
		a.metrics.records.WithLabelValues(string(e.Kind)).Inc()
		a.metrics.position.Set(float64(e.Sequence))
		switch e.Kind {
		case record.KindGap:
			a.metrics.lost.Add(float64(e.To - e.From + 1))
			a.log.Error("messages were lost before they were read", "from", e.From, "to", e.To)
		case record.KindStream:
			a.log.Warn("a stream is read from here", "sequence", e.Sequence, "reason", e.Reason)
		case record.KindEvent:
		}
	}
	return nil
}

// pause waits for d; false where ctx was done before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
