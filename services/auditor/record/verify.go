package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// Bad is the first record that is not as it was written.
type Bad struct {
	// File is the segment, empty where there is no name for it. Line is from 1.
	File    string
	Line    int
	Problem string
	// Torn says that it is a last line without its end, which a death in mid-write
	// leaves. Offset is where the line begins.
	Torn   bool
	Offset int64
}

func (b *Bad) Error() string {
	if b.File == "" {
		return fmt.Sprintf("line %d: %s", b.Line, b.Problem)
	}
	return fmt.Sprintf("%s, line %d: %s", b.File, b.Line, b.Problem)
}

// Report sums up the records that were found good.
type Report struct {
	Records, Events, Segments uint64
	// Gaps is how many times messages were lost, and Lost how many.
	Gaps, Lost uint64
	// Streams is how many times a stream was begun: once for each life of it.
	Streams uint64
	// First and Last are the times of the first and the last event; zero where there
	// is none.
	First, Last time.Time
	// Head is the end of the chain.
	Head Head
}

// Verifier checks a chain segment by segment.
type Verifier struct {
	report Report
	last   Record
	// Partial lets the chain begin after its first record, where old segments were
	// put elsewhere.
	Partial bool
	// See, where set, gets each good record.
	See func(Record)
}

// Report of what was good so far.
func (v *Verifier) Report() Report { return v.report }

// Verify reads a chain in one piece. The error is a *Bad, or the reader's.
func Verify(r io.Reader) (Report, error) {
	var v Verifier
	err := v.Segment("", r)
	return v.Report(), err
}

// Segment reads the segment that follows those before. The error is a *Bad, or
// the reader's. A last line without its end is bad: whoever writes cuts it off.
func (v *Verifier) Segment(name string, r io.Reader) error {
	v.report.Segments++
	lines := bufio.NewReader(r)
	offset := int64(0)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if err != nil {
			return &Bad{File: name, Line: n, Problem: "the line has no end: it was torn, or cut", Torn: true, Offset: offset}
		}
		if problem := v.line(name, n, line); problem != "" {
			return &Bad{File: name, Line: n, Problem: problem, Offset: offset}
		}
		offset += int64(len(line))
	}
}

// line says what is wrong with a line; nothing where it is good.
func (v *Verifier) line(segment string, n int, line []byte) string {
	r, err := Parse(line)
	if err != nil {
		return err.Error()
	}
	if problem := v.follows(r); problem != "" {
		return problem
	}
	if first, ok := SegmentFirst(segment); ok && n == 1 && first != r.N {
		return fmt.Sprintf("the segment begins with record %d, and its name says %d", r.N, first)
	}
	v.count(r)
	v.last = r
	if v.See != nil {
		v.See(r)
	}
	return ""
}

// follows says why the record cannot come after the last one.
func (v *Verifier) follows(r Record) string {
	if v.last.N == 0 && v.Partial {
		return ""
	}
	switch want := v.last.Head(); {
	case r.N > want.N+1:
		return fmt.Sprintf("records %d to %d are missing: this is record %d", want.N+1, r.N-1, r.N)
	case r.N <= want.N:
		return fmt.Sprintf("the records are out of order: this is record %d, after record %d", r.N, want.N)
	case r.Prev != want.hash():
		return fmt.Sprintf("record %d does not follow the record before: that has the hash %s, and this says %s", r.N, want.hash(), r.Prev)
	}
	return v.continues(r)
}

// continues says why the record cannot be the next of its stream: a hole must
// have been said.
func (v *Verifier) continues(r Record) string {
	after := v.last.Sequence + 1
	switch r.Kind {
	case KindStream:
		return ""
	case KindGap:
		if r.From != after || r.To < r.From || r.Sequence != r.To {
			return fmt.Sprintf("the gap %d..%d does not follow sequence %d", r.From, r.To, v.last.Sequence)
		}
	case KindEvent:
		if r.Sequence != after {
			return fmt.Sprintf("sequence %d follows %d, and no gap is said", r.Sequence, v.last.Sequence)
		}
	default:
		return fmt.Sprintf("kind %q is not known", r.Kind)
	}
	if !r.Stream.Equal(v.last.Stream) {
		return "another stream is read, and no record says so"
	}
	return ""
}

func (v *Verifier) count(r Record) {
	v.report.Records++
	v.report.Head = r.Head()
	switch r.Kind {
	case KindGap:
		v.report.Gaps++
		v.report.Lost += r.To - r.From + 1
	case KindStream:
		v.report.Streams++
	case KindEvent:
		v.report.Events++
		if v.report.First.IsZero() {
			v.report.First = r.Time
		}
		v.report.Last = r.Time
	}
}

const (
	segmentHead = "audit-"
	segmentTail = ".jsonl"
	segmentTime = "20060102T150405Z"
)

// SegmentName is the name of the segment that begins with record n at a time. The
// order of the names is the order of the segments.
func SegmentName(n uint64, at time.Time) string {
	return fmt.Sprintf("%s%020d-%s%s", segmentHead, n, at.UTC().Format(segmentTime), segmentTail)
}

// ObjectPrefix is how the name of an object begins whose first record is n.
func ObjectPrefix(n uint64) string { return fmt.Sprintf("%s%020d-", segmentHead, n) }

// ObjectName is the name of an object with the records first to last. A folder of
// objects is verified like one of segments.
func ObjectName(first, last uint64) string {
	return ObjectPrefix(first) + fmt.Sprintf("%020d", last) + segmentTail
}

// SegmentFirst is the record with which the segment of that name begins.
func SegmentFirst(name string) (n uint64, ok bool) {
	n, _, ok = parseSegment(name)
	return n, ok
}

// SegmentBegun is when the segment of that name was begun; zero for an object.
func SegmentBegun(name string) (at time.Time, ok bool) {
	_, at, ok = parseSegment(name)
	return at, ok
}

func parseSegment(name string) (n uint64, at time.Time, ok bool) {
	middle, ok := strings.CutPrefix(name, segmentHead)
	if !ok {
		return 0, at, false
	}
	if middle, ok = strings.CutSuffix(middle, segmentTail); !ok {
		return 0, at, false
	}
	number, begun, _ := strings.Cut(middle, "-")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, at, false
	}
	if at, err = time.Parse(segmentTime, begun); err == nil {
		return n, at, true
	}
	_, err = strconv.ParseUint(begun, 10, 64)
	return n, time.Time{}, err == nil
}

// Segments are the names of the segments of a folder, in their order.
func Segments(dir fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(dir, ".") // sorted by name
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, ok := SegmentFirst(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Folder checks all segments of a folder.
func (v *Verifier) Folder(dir fs.FS) error {
	names, err := Segments(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := v.file(dir, name); err != nil {
			return err
		}
	}
	return nil
}

func (v *Verifier) file(dir fs.FS, name string) (err error) {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return v.Segment(name, f)
}
