package auditor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"orkestra.dev/services/auditor/record"
)

const (
	// refusals is how often a target may refuse a record before it is skipped.
	refusals = 5
	// largestBatch is how many bytes a batch has before nothing more is added to it.
	largestBatch = 8 << 20
	// lastAnswer is how long a target has to answer what it was given before the end: what
	// is given up then is handed on twice.
	lastAnswer = 2 * time.Second
)

// target is where a sink hands records on to.
type target interface {
	// batch is how many records it takes at most, and how long the first of them may
	// wait for others.
	batch() (most int, linger time.Duration)
	// give hands on records that follow each other, at least one. What is done with may
	// be more than was given, where the target has had it already.
	give(ctx context.Context, records []line) (done mark, v verdict, err error)
}

// verdict on an attempt to hand on.
type verdict struct {
	what string
	// status of an answer over HTTP, where there was one.
	status int
	// after is how long the target asks to wait.
	after time.Duration
}

// sink hands the records of a trail to a target, one batch after the other. It reads
// them from the trail's files, so that it holds up nobody, and keeps its own position
// beside them.
type sink struct {
	name     string
	target   target
	dir      string
	backoff  func(n uint64) time.Duration
	progress *progress
	log      *slog.Logger
	metrics  *metrics
	now      func() time.Time
}

// mark is a sink's position: the last record that it is done with.
type mark struct {
	N    uint64 `json:"n"`
	Hash string `json:"hash"`
}

func markOf(r record.Record) mark { return mark{N: r.N, Hash: r.Hash} }

func (s *sink) markFile() string    { return filepath.Join(s.dir, "sink-"+s.name+".json") }
func (s *sink) refusedFile() string { return filepath.Join(s.dir, "sink-"+s.name+".refused.jsonl") }

// run hands on until ctx is done. Trouble with the target or the files is waited out;
// an unreadable position is an error.
func (s *sink) run(ctx context.Context) error {
	last, err := s.load()
	if err != nil {
		return err
	}
	c := cursor{dir: s.dir, next: last.N + 1}
	defer c.close()
	for attempt := uint64(1); s.progress.wait(ctx, c.next); {
		r, err := c.read()
		var gone *goneError
		switch {
		case errors.As(err, &gone):
			s.log.ErrorContext(ctx, "records are gone before the sink had them", "sink", s.name, "from", gone.wanted, "to", gone.first-1)
			s.metrics.handed.WithLabelValues(s.name, outcomeGone).Add(float64(gone.first - gone.wanted))
			c.next, last = gone.first, mark{}
			continue
		case err != nil:
			s.log.ErrorContext(ctx, "reading the trail again", "sink", s.name, "attempt", attempt, "error", err)
			if !pause(ctx, s.backoff(attempt)) {
				return nil
			}
			attempt++
			continue
		}
		attempt = 1
		if last.N > 0 && r.Prev != last.Hash {
			s.log.ErrorContext(ctx, "the trail is not the one that the sink had; it gets all of this one", "sink", s.name, "record", r.N)
			c.seek(1)
			last = mark{}
			continue
		}
		done, ok := s.hand(ctx, s.more(ctx, &c, r))
		if !ok {
			return nil
		}
		last = done
		c.seek(done.N + 1)
	}
	return nil
}

// more records after the first, as many as the target takes and as are there in time.
func (s *sink) more(ctx context.Context, c *cursor, first line) []line {
	out := []line{first}
	most, linger := s.target.batch()
	ctx, cancel := context.WithTimeout(ctx, linger)
	defer cancel()
	for size := len(first.bytes); len(out) < most && size < largestBatch && s.progress.wait(ctx, c.next); {
		r, err := c.read()
		if err != nil || r.Prev != out[len(out)-1].Hash {
			break // it is met again as the first of the next batch
		}
		out = append(out, r)
		size += len(r.bytes)
	}
	return out
}

// hand repeats until the target has the records, or has refused them for good, and that
// is noted; false where ctx was done before.
func (s *sink) hand(ctx context.Context, records []line) (done mark, ok bool) {
	first, last, refused := records[0].N, records[len(records)-1], 0
	for attempt := uint64(1); ; attempt++ {
		try, cancel := outlive(ctx, lastAnswer)
		done, v, err := s.target.give(try, records)
		cancel()
		if ctx.Err() != nil && v.what != outcomeDelivered {
			return done, false
		}
		if v.what == outcomeRefused {
			if refused++; refused < refusals {
				v.what = outcomeRetried
			} else if err = s.note(records, v.status); err == nil {
				s.log.ErrorContext(ctx, "the target refuses a record; it is skipped", "sink", s.name, "record", first, "to", last.N, "status", v.status)
				done = markOf(last.Record)
			}
		}
		if v.what != outcomeRetried && (err == nil || v.what == outcomeDelivered) {
			if err = s.save(done); err == nil {
				s.metrics.handed.WithLabelValues(s.name, v.what).Add(float64(done.N + 1 - first))
				s.metrics.reached.WithLabelValues(s.name).Set(float64(done.N))
				return done, true
			}
		}
		s.metrics.handed.WithLabelValues(s.name, outcomeRetried).Inc()
		wait := max(s.backoff(attempt), v.after)
		s.log.WarnContext(ctx, "handing a record on again", "sink", s.name, "record", first, "attempt", attempt,
			"status", v.status, "again", wait, "error", err)
		if !pause(ctx, wait) {
			return done, false
		}
	}
}

// outlive is a context that goes on for d after ctx is done.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return out, func() { stop(); cancel() }
}

// note keeps what was refused, so that it can be handed on by hand. A death before
// the position is saved notes it twice.
func (s *sink) note(records []line, status int) error {
	var lines []byte
	for _, r := range records {
		text, err := json.Marshal(map[string]any{"n": r.N, "hash": r.Hash, "status": status, "time": s.now().UTC()})
		if err != nil {
			return fmt.Errorf("noting a refusal: %w", err)
		}
		lines = append(append(lines, text...), '\n')
	}
	f, err := os.OpenFile(s.refusedFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("noting a refusal: %w", err)
	}
	_, err = f.Write(lines)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("noting a refusal: %w", err)
	}
	return nil
}

// save replaces the position as a whole.
func (s *sink) save(m mark) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("saving the position: %w", err)
	}
	next := s.markFile() + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("saving the position: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(next, s.markFile())
	}
	if err != nil {
		return fmt.Errorf("saving the position: %w", err)
	}
	return nil
}

// load gives the position; a sink that is new begins with the first record, and one
// that is ahead of the trail as well, because that is another trail.
func (s *sink) load() (mark, error) {
	var m mark
	data, err := os.ReadFile(s.markFile())
	if errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		return m, fmt.Errorf("reading the position of sink %s: %w", s.name, err)
	}
	if head, _ := s.progress.get(); m.N > head.N {
		s.log.Error("the trail ends before the sink's position; the sink gets all of it", "sink", s.name, "record", m.N, "end", head.N)
		return mark{}, nil
	}
	s.metrics.reached.WithLabelValues(s.name).Set(float64(m.N))
	return m, nil
}
