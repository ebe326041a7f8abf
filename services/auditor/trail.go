package auditor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"orkestra.dev/services/auditor/record"
)

// rotation says when a segment is full.
type rotation struct {
	size int64
	age  time.Duration
}

// progress is the last record that is on the disk. Sinks wait for it.
type progress struct {
	mu    sync.Mutex
	head  record.Head
	moved chan struct{}
}

func newProgress() *progress { return &progress{moved: make(chan struct{})} }

func (p *progress) set(h record.Head) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.head = h
	close(p.moved)
	p.moved = make(chan struct{})
}

func (p *progress) get() (record.Head, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.head, p.moved
}

// wait until record n is on the disk; false where ctx was done before.
func (p *progress) wait(ctx context.Context, n uint64) bool {
	for {
		head, moved := p.get()
		if head.N >= n {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-moved:
		}
	}
}

// trail is the chain in a folder. What it holds is all that there is to know:
// the position is that of its last record.
type trail struct {
	dir      string
	rotation rotation
	now      func() time.Time
	progress *progress

	file     *os.File // nil where the next record begins a segment
	begun    time.Time
	size     int64
	synced   int64 // of size, on the disk
	unsynced int   // records
	head     record.Head
	position record.Position
	// broken: the disk refused something, and the trail has to be opened again.
	broken bool
}

// openTrail finds the end of the trail, and cuts off a line that a death has torn.
// The error is a *record.Bad where the last segment was altered.
func openTrail(dir string, r rotation, now func() time.Time, p *progress) (*trail, error) {
	t := &trail{dir: dir, rotation: r, now: now, progress: p}
	names, err := record.Segments(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("listing the segments: %w", err)
	}
	for i := len(names) - 1; i >= 0 && t.head.N == 0; i-- {
		if err := t.resume(names[i]); err != nil {
			return nil, fmt.Errorf("reading the end of the trail: %w", err)
		}
	}
	p.set(t.head)
	return t, nil
}

// resume goes on with a segment. One without a whole record is removed.
func (t *trail) resume(name string) (err error) {
	last := record.Record{}
	v := record.Verifier{Partial: true, See: func(r record.Record) { last = r }}
	f, err := os.OpenFile(filepath.Join(t.dir, name), os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			err = errors.Join(err, f.Close())
		}
	}()
	err = v.Segment(name, f)
	if bad, ok := errors.AsType[*record.Bad](err); ok && bad.Torn {
		err = truncate(f, bad.Offset)
	}
	if err != nil {
		return err
	}
	if last.N == 0 {
		return errors.Join(os.Remove(f.Name()), syncFolder(t.dir))
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	// What a process that was killed had written may not be on the disk yet.
	if err := f.Sync(); err != nil {
		return err
	}
	keep = true
	t.file, t.size, t.synced = f, info.Size(), info.Size()
	t.begun, _ = record.SegmentBegun(name)
	t.head, t.position = last.Head(), last.Position()
	return nil
}

func truncate(f *os.File, size int64) error { return errors.Join(f.Truncate(size), f.Sync()) }

// syncFolder puts the names of a folder on the disk.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// append writes a record; sync puts it on the disk.
func (t *trail) append(e record.Entry) error {
	line, next, err := t.head.Append(e)
	if err != nil {
		return err
	}
	if err := t.write(line, next.N); err != nil {
		t.broken = true
		return fmt.Errorf("writing record %d: %w", next.N, err)
	}
	t.head, t.position = next, e.Position()
	t.unsynced++
	return nil
}

func (t *trail) write(line []byte, n uint64) error {
	if t.file != nil && t.full(len(line)) {
		if err := t.end(); err != nil {
			return err
		}
	}
	if t.file == nil {
		if err := t.begin(n); err != nil {
			return err
		}
	}
	written, err := t.file.Write(line)
	t.size += int64(written)
	return err
}

func (t *trail) full(more int) bool {
	return t.size > 0 && (t.size+int64(more) > t.rotation.size || t.now().Sub(t.begun) >= t.rotation.age)
}

func (t *trail) begin(n uint64) error {
	t.begun = t.now()
	name := filepath.Join(t.dir, record.SegmentName(n, t.begun))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	t.file, t.size, t.synced = f, 0, 0
	return syncFolder(t.dir)
}

// end closes the segment, whole.
func (t *trail) end() error {
	if err := t.sync(); err != nil {
		return err
	}
	err := t.file.Close()
	t.file = nil
	return err
}

// sync puts what was written on the disk; only then the position has moved.
func (t *trail) sync() error {
	if t.unsynced == 0 {
		return nil
	}
	if err := t.file.Sync(); err != nil {
		t.broken = true
		return fmt.Errorf("writing record %d to the disk: %w", t.head.N, err)
	}
	t.synced, t.unsynced = t.size, 0
	t.progress.set(t.head)
	return nil
}

// close ends the trail. Of a broken one it takes back what may not be on the disk.
func (t *trail) close() error {
	if t.file == nil {
		return nil
	}
	var err error
	if t.broken {
		err = truncate(t.file, t.synced)
	} else {
		err = t.sync()
	}
	if closed := t.file.Close(); !errors.Is(closed, fs.ErrClosed) {
		err = errors.Join(err, closed)
	}
	t.file = nil
	return err
}
