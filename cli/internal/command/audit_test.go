package command

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orkestra.dev/services/auditor/record"
)

// trail is a folder with two segments: a stream, three events, a gap and an event.
func trail(t *testing.T) (dir string, segments []string, head record.Head) {
	t.Helper()
	made := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	p := record.Position{}
	entries := p.Resume(record.Stream{Created: made, First: 1, Last: 9}, made)
	p = entries[0].Position()
	for _, seq := range []uint64{1, 2, 3, 6} {
		next, err := p.Next(record.Message{
			Sequence: seq, Time: made.Add(time.Duration(seq) * time.Minute), Event: fmt.Appendf(nil, `{"id":"%d"}`, seq),
		}, made)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, next...)
		p = next[len(next)-1].Position()
	}
	dir = t.TempDir()
	files := map[int]string{0: record.SegmentName(1, made), 3: record.SegmentName(4, made.Add(time.Hour))}
	segments = []string{files[0], files[3]}
	file := ""
	for i, e := range entries {
		if name, ok := files[i]; ok {
			file = filepath.Join(dir, name)
		}
		line, next, err := head.Append(e)
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(before, line...), 0o600); err != nil {
			t.Fatal(err)
		}
		head = next
	}
	return dir, segments, head
}

func TestAuditVerify(t *testing.T) {
	dir, segments, head := trail(t)
	code, out, errs := run(t, "", "audit", "verify", dir, "--contains", head.Hash)
	want := "6 records, from 2026-03-01T10:01:00Z to 2026-03-01T10:06:00Z, 2 segments, 1 gaps\n" +
		"lost before they were read: 2 messages\nlast record: 6, hash " + head.Hash + "\n"
	if code != 0 || out != want || errs != "" {
		t.Errorf("exit %d, %q, %q, want %q", code, out, errs, want)
	}
	if code, _, errs := run(t, "", "audit", "verify", dir, "--contains", record.NoHash); code != 1 || !strings.Contains(errs, "the end was cut off") {
		t.Errorf("a hash that is not there: exit %d, %s", code, errs)
	}

	second := filepath.Join(dir, segments[1])
	data, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(second, bytes.Replace(data, []byte(`"id":"6"`), []byte(`"id":"7"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs = run(t, "", "audit", "verify", dir)
	if code != 1 || out != "" || !strings.Contains(errs, "bad: "+segments[1]+", line 3: the record was altered") ||
		!strings.Contains(errs, "before it: 5 records") {
		t.Errorf("an altered record: exit %d, %q, %s", code, out, errs)
	}
	if err := os.WriteFile(second, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, segments[0])); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := run(t, "", "audit", "verify", dir); code != 1 || !strings.Contains(errs, "records 1 to 3 are missing") {
		t.Errorf("a segment that is gone: exit %d, %s", code, errs)
	}
	if code, out, errs := run(t, "", "audit", "verify", "--partial", dir); code != 0 || !strings.HasPrefix(out, "3 records") {
		t.Errorf("a part of a trail: exit %d, %q, %s", code, out, errs)
	}
}

func TestAuditVerifySaysWhatItNeeds(t *testing.T) {
	for want, args := range map[string][]string{
		"has no records":        {t.TempDir()},
		"reading the trail":     {filepath.Join(t.TempDir(), "nowhere")},
		"accepts 1 arg":         {},
		"--contains \"abc\"":    {t.TempDir(), "--contains", "abc"},
		"unknown flag: --other": {t.TempDir(), "--other"},
	} {
		if code, _, errs := run(t, "", append([]string{"audit", "verify"}, args...)...); code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%v: exit %d, %q, want %q", args, code, errs, want)
		}
	}
}
