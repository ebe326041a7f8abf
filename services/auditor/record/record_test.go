package record_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/services/auditor/record"
)

var (
	made = time.Date(2026, 3, 1, 10, 0, 0, 123456789, time.UTC)
	now  = made.Add(time.Hour)
)

func message(seq uint64) record.Message {
	return record.Message{
		Sequence: seq, Time: made.Add(time.Duration(seq) * time.Second), Subject: "orkestra.v1.group.shop",
		Event: fmt.Appendf(nil, `{ "id": "%d", "data": {"html": "<&>", "number": 1.0e2} }`, seq),
	}
}

// lines is a chain: the stream, n events, a gap of two, and another event.
func lines(t *testing.T, n uint64) [][]byte {
	t.Helper()
	var p record.Position
	entries := p.Resume(record.Stream{Created: made, First: 1, Last: n}, now)
	for seq := uint64(1); seq <= n+3; seq++ {
		if seq > n && seq < n+3 {
			continue
		}
		if len(entries) > 0 {
			p = entries[len(entries)-1].Position()
		}
		next, err := p.Next(message(seq), now)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, next...)
	}
	return chain(t, entries)
}

func chain(t *testing.T, entries []record.Entry) (out [][]byte) {
	t.Helper()
	var head record.Head
	for _, e := range entries {
		line, next, err := head.Append(e)
		if err != nil {
			t.Fatal(err)
		}
		out, head = append(out, line), next
	}
	return out
}

func verify(lines [][]byte) (record.Report, error) {
	return record.Verify(bytes.NewReader(bytes.Join(lines, nil)))
}

func TestAChainIsGood(t *testing.T) {
	all := lines(t, 10)
	got, err := verify(all)
	if err != nil {
		t.Fatal(err)
	}
	want := record.Report{
		Records: 13, Events: 11, Segments: 1, Gaps: 1, Lost: 2, Streams: 1,
		First: message(1).Time, Last: message(13).Time, Head: got.Head,
	}
	if diff := cmp.Diff(want, got); diff != "" || got.Head.N != 13 {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again := lines(t, 10); !slices.EqualFunc(all, again, bytes.Equal) {
		t.Error("the same entries give other bytes")
	}
	r, err := record.Parse(all[1])
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"id":"1","data":{"html":"<&>","number":1.0e2}}`; string(r.Event) != want {
		t.Errorf("the event is %s, want it as it was stored: %s", r.Event, want)
	}
	if r.Prev != mustParse(t, all[0]).Hash || mustParse(t, all[0]).Prev != record.NoHash {
		t.Error("the records are not chained")
	}
	if got, err := verify(nil); err != nil || got.Records != 0 {
		t.Errorf("an empty chain: %+v, %v", got, err)
	}
}

func mustParse(t *testing.T, line []byte) record.Record {
	t.Helper()
	r, err := record.Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	all := lines(t, 4)
	whole := bytes.Join(all, nil)
	line := 1
	for i := range whole {
		for _, flip := range []byte{0x01, 0x20, 0x80} {
			altered := bytes.Clone(whole)
			altered[i] ^= flip
			_, err := record.Verify(bytes.NewReader(altered))
			var bad *record.Bad
			if !errors.As(err, &bad) || bad.Line != line {
				t.Fatalf("byte %d of line %d altered by %#x: got %v", i, line, flip, err)
			}
		}
		if whole[i] == '\n' {
			line++
		}
	}
}

func TestWhatIsMissingOrMovedIsFound(t *testing.T) {
	all := lines(t, 8)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range all[:len(all)-1] { // the last one is what the head is for
		_, err := verify(slices.Delete(slices.Clone(all), i, i+1))
		var bad *record.Bad
		if !errors.As(err, &bad) || bad.Line != i+1 || !strings.Contains(bad.Problem, "missing") {
			t.Errorf("line %d dropped: got %v", i+1, err)
		}
		j := i + 1 + random.IntN(len(all)-i-1)
		swapped := slices.Clone(all)
		swapped[i], swapped[j] = swapped[j], swapped[i]
		if _, err := verify(swapped); !errors.As(err, &bad) || bad.Line != i+1 {
			t.Errorf("lines %d and %d swapped: got %v", i+1, j+1, err)
		}
		if _, err := verify(slices.Insert(slices.Clone(all), i+1, all[i])); !errors.As(err, &bad) || bad.Line != i+2 {
			t.Errorf("line %d twice: got %v", i+1, err)
		}
	}
	whole := bytes.Join(all, nil)
	_, err := record.Verify(bytes.NewReader(whole[:len(whole)-7]))
	var bad *record.Bad
	if !errors.As(err, &bad) || !bad.Torn || bad.Offset != int64(len(whole)-len(all[len(all)-1])) {
		t.Errorf("a torn line: got %v", err)
	}
}

func TestWhatWasHashedAgainMustStillMakeSense(t *testing.T) {
	begin := record.Position{}.Resume(record.Stream{Created: made, First: 1, Last: 9}, now)
	event := func(seq uint64) record.Entry {
		return record.Entry{Kind: record.KindEvent, Time: now, Stream: made, Sequence: seq, Event: []byte("{}")}
	}
	other := event(1)
	other.Stream = now
	for reason, entries := range map[string][]record.Entry{
		"no gap is said":             append(slices.Clone(begin), event(1), event(3)),
		"no record says so":          append(slices.Clone(begin), other),
		"another stream":             {event(1)},
		"is not known":               append(slices.Clone(begin), record.Entry{Kind: "word", Stream: made}),
		"does not follow sequence 0": append(slices.Clone(begin), record.Entry{Kind: record.KindGap, Stream: made, From: 3, To: 4, Sequence: 4}),
	} {
		if _, err := verify(chain(t, entries)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("want %q, got %v", reason, err)
		}
	}
	if _, _, err := (record.Head{}).Append(record.Entry{Event: []byte("{")}); err == nil {
		t.Error("an event that is not JSON is recorded")
	}
}

func TestFolder(t *testing.T) {
	all := lines(t, 6)
	segments := func(cut ...int) fstest.MapFS {
		dir := fstest.MapFS{"auditor.lock": {}, "sink-siem.json": {Data: []byte("{}")}}
		cut = append(cut, len(all))
		for i, from := range cut[:len(cut)-1] {
			name := record.SegmentName(uint64(from+1), now.Add(time.Duration(i)*time.Hour))
			dir[name] = &fstest.MapFile{Data: bytes.Join(all[from:cut[i+1]], nil)}
		}
		return dir
	}
	var v record.Verifier
	if err := v.Folder(segments(0, 3, 7)); err != nil || v.Report().Segments != 3 || v.Report().Records != uint64(len(all)) {
		t.Errorf("got %+v, %v", v.Report(), err)
	}
	first, second := record.SegmentName(1, now), record.SegmentName(4, now.Add(time.Hour))

	dir := segments(0, 3, 7)
	delete(dir, second)
	v = record.Verifier{}
	if err := v.Folder(dir); err == nil || !strings.Contains(err.Error(), "line 1: records 4 to 7 are missing") {
		t.Errorf("a segment is gone: %v", err)
	}
	dir = segments(0, 3, 7)
	delete(dir, first)
	v = record.Verifier{}
	if err := v.Folder(dir); err == nil || !strings.Contains(err.Error(), second+", line 1: records 1 to 3 are missing") {
		t.Errorf("the first segment is gone: %v", err)
	}
	v = record.Verifier{Partial: true}
	if err := v.Folder(dir); err != nil {
		t.Errorf("a trail whose beginning is kept elsewhere: %v", err)
	}
	dir = segments(0, 3)
	dir[record.SegmentName(5, now.Add(2*time.Hour))] = dir[second]
	delete(dir, second)
	v = record.Verifier{}
	if err := v.Folder(dir); err == nil || !strings.Contains(err.Error(), "its name says 5") {
		t.Errorf("a segment was renamed: %v", err)
	}
}

func TestResume(t *testing.T) {
	read := record.Position{Stream: made, Sequence: 5, At: message(5).Time}
	kinds := func(entries []record.Entry) string {
		var out []string
		for _, e := range entries {
			s := fmt.Sprintf("%s@%d", e.Kind, e.Sequence)
			if e.Kind == record.KindGap {
				s += fmt.Sprintf("(%d..%d)", e.From, e.To)
			}
			out = append(out, s)
		}
		return strings.Join(out, " ")
	}
	for name, c := range map[string]struct {
		p    record.Position
		s    record.Stream
		want string
	}{
		"the first look":                      {record.Position{}, record.Stream{Created: made}, "stream@0"},
		"the first look is late":              {record.Position{}, record.Stream{Created: made, First: 4, Last: 9}, "stream@0 gap@3(1..3)"},
		"nothing was lost":                    {read, record.Stream{Created: made, First: 6, Last: 9}, ""},
		"what was read is still there":        {read, record.Stream{Created: made, First: 1, Last: 5}, ""},
		"too late":                            {read, record.Stream{Created: made, First: 8, Last: 9}, "gap@7(6..7)"},
		"too late, and nothing is left":       {read, record.Stream{Created: made, First: 10, Last: 9}, "gap@9(6..9)"},
		"another stream":                      {read, record.Stream{Created: now, First: 1, Last: 9}, "stream@0"},
		"another stream, and too late":        {read, record.Stream{Created: now, First: 3, Last: 9}, "stream@0 gap@2(1..2)"},
		"the end was lost":                    {read, record.Stream{Created: made, First: 2, Last: 4}, "stream@1"},
		"all was lost, and it is made as old": {read, record.Stream{Created: made}, "stream@0"},
	} {
		if got := kinds(c.p.Resume(c.s, now)); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}

	other := message(5)
	other.Time = other.Time.Add(time.Nanosecond)
	if _, err := read.Next(other, now); !errors.Is(err, record.ErrWentBack) {
		t.Errorf("another message at the position: %v", err)
	}
	for seq, want := range map[uint64]string{4: "", 5: "", 6: "event@6", 9: "gap@8(6..8) event@9"} {
		if entries, err := read.Next(message(seq), now); err != nil || kinds(entries) != want {
			t.Errorf("message %d: got %q, %v, want %q", seq, kinds(entries), err, want)
		}
	}
	raw := record.Message{Sequence: 6, Time: now, Raw: []byte("\x00garbage")}
	entries, err := read.Next(raw, now)
	if err != nil || len(entries) != 1 || !bytes.Equal(entries[0].Raw, raw.Raw) || entries[0].Event != nil {
		t.Errorf("what is no event: %+v, %v", entries, err)
	}
}

func FuzzParse(f *testing.F) {
	line, _, err := record.Head{}.Append(record.Entry{Kind: record.KindEvent, Event: json.RawMessage(`{"a":"\u2028"}`)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`,"hash":"` + record.NoHash + `"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := record.Parse(data)
		if err == nil && len(r.Hash) != len(record.NoHash) {
			t.Errorf("%q is taken for a record", data)
		}
	})
}
