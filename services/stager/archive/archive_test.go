package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
)

// pack makes an archive of any headers, as somebody hostile would.
func pack(t *testing.T, entries ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for i := 0; i < len(entries); i += 2 {
		h, ok := entries[i].(*tar.Header)
		if !ok {
			h = &tar.Header{Typeflag: tar.TypeReg, Name: entries[i].(string), Mode: 0o600}
		}
		body := entries[i+1].(string)
		h.Size = int64(len(body))
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestScan(t *testing.T) {
	limits := archive.Limits{Bytes: 1 << 20, FileBytes: 600 << 10, Files: 10, Depth: 3, Ratio: 50}
	noise := func(n int) string { // does not compress
		b := make([]byte, n)
		x := uint32(1)
		for i := range b {
			x = x*1664525 + 1013904223
			b[i] = byte(x >> 24)
		}
		return string(b)
	}
	nest := func(depth int, inner string) []byte {
		data := pack(t, "c/x", inner)
		for range depth - 1 {
			data = pack(t, "c/charts/sub.tgz", string(data))
		}
		return data
	}
	var many []any
	for i := range 11 {
		many = append(many, "c/"+strings.Repeat("f", i+1), "")
	}
	for name, c := range map[string]struct {
		promise string
		data    []byte
		say     string // empty: it passes
	}{
		"Chart":          {"a chart passes", pack(t, "c/Chart.yaml", "name: c", "c/charts/d/Chart.yaml", "name: d"), ""},
		"Directory":      {"so do directories", pack(t, &tar.Header{Typeflag: tar.TypeDir, Name: "c/", Mode: 0o700}, ""), ""},
		"Nested":         {"and archives in it", nest(3, "x"), ""},
		"NotGzip":        {"what is not gzip does not", []byte("PK"), "not a gzipped tar"},
		"NotTar":         {"nor what is not tar", gz(t, noise(2000)), "reading archive"},
		"Symlink":        {"a link does not", pack(t, &tar.Header{Typeflag: tar.TypeSymlink, Name: "c/a", Linkname: "/etc/passwd"}, ""), "neither a file nor a directory"},
		"Hardlink":       {"a hard link does not", pack(t, &tar.Header{Typeflag: tar.TypeLink, Name: "c/a", Linkname: "b"}, ""), "neither a file nor a directory"},
		"Device":         {"a device does not", pack(t, &tar.Header{Typeflag: tar.TypeChar, Name: "c/null"}, ""), "neither a file nor a directory"},
		"Absolute":       {"an absolute path does not", pack(t, "/c/a", ""), "not a relative path"},
		"Up":             {"a path that leaves does not", pack(t, "c/../../a", ""), "leaves the archive"},
		"UpInWindows":    {"nor one that does it in Windows' way", pack(t, `c\..\a`, ""), "leaves the archive"},
		"LongPath":       {"a path that is longer than any does not", pack(t, "c/"+strings.Repeat("charts/a/", 2000)+"Chart.yaml", ""), "has a path of 18012 bytes"},
		"Outside":        {"a file beside the folder does not", pack(t, "a", ""), "outside the chart's folder"},
		"Twice":          {"one file twice does not: readers would differ in which they see", pack(t, "c/a", "1", "d/./a", "2"), "there twice"},
		"ManyFiles":      {"too many files do not", pack(t, many...), "more than 10 files"},
		"LargeFile":      {"a file that is too large does not", pack(t, "c/a", noise(700<<10)), "716800 bytes"},
		"LargeInAll":     {"too much in all does not", pack(t, "c/a", noise(500<<10), "c/b", noise(600<<10)), "more than 1048576 bytes in all"},
		"LargeNested":    {"nor too much over all nested archives, each of which is small", pack(t, "c/charts/a.tgz", string(pack(t, "a/x", strings.Repeat("x", 590<<10))), "c/charts/b.tgz", string(pack(t, "b/x", strings.Repeat("y", 590<<10)))), "in all"},
		"Deep":           {"archives in archives in archives do not", nest(4, "x"), "nested more than 3 deep"},
		"BadNested":      {"a subchart that is no archive does not", pack(t, "c/charts/a.tgz", "no"), "archive charts/a.tgz is not a gzipped tar"},
		"NotASubchart":   {"an archive that Helm would not open is a file", pack(t, "c/files/charts/a.tgz", "no", "c/charts/_a.tgz", "no"), ""},
		"LinkInSubchart": {"the rules hold in subcharts", pack(t, "c/charts/d/charts/a.tgz", string(pack(t, &tar.Header{Typeflag: tar.TypeSymlink, Name: "c/a", Linkname: "/"}, ""))), "archive charts/d/charts/a.tgz: entry"},
	} {
		t.Run(name, func(t *testing.T) {
			err := archive.Scan(c.data, limits)
			switch {
			case c.say == "" && err != nil:
				t.Errorf("%s: %v", c.promise, err)
			case c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say)):
				t.Errorf("%s: error %v, want it to say %q", c.promise, err, c.say)
			case c.say != "" && refusal.Reason(err) != v1alpha1.ReasonInvalidChart:
				t.Errorf("reason %q, want InvalidChart", refusal.Reason(err))
			}
		})
	}
	t.Run("Ratio", func(t *testing.T) {
		generous := limits
		generous.Bytes, generous.FileBytes = 64<<20, 32<<20
		if err := archive.Scan(pack(t, "c/a", strings.Repeat("x", 2<<20)), generous); err == nil || !strings.Contains(err.Error(), "50 times its size") {
			t.Errorf("a bomb does not pass: %v", err)
		}
	})
}

func gz(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	if _, err := zw.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWriteIsAFunctionOfTheFiles(t *testing.T) {
	a, b := archive.File{Name: "Chart.yaml", Data: []byte("name: c\n")}, archive.File{Name: "templates/" + strings.Repeat("long/", 40) + "ü.yaml", Data: []byte("x")}
	one, err := archive.Write("c", []archive.File{a, b})
	if err != nil {
		t.Fatal(err)
	}
	two, err := archive.Write("c", []archive.File{b, a})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) {
		t.Error("the order of the files shows in the bytes")
	}
	got, err := archive.Read(one, archive.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]archive.File{a, b}, got); diff != "" {
		t.Errorf("what was written is read (-want +got):\n%s", diff)
	}
}
