package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/internal/charttest"
	"orkestra.dev/services/stager/refusal"
)

func TestScan(t *testing.T) {
	limits := archive.Limits{
		Bytes: 1 << 20, FileBytes: 600 << 10, Files: 10, Depth: 3, Ratio: 50, YAMLBytes: 2000, YAMLNodes: 200, ActionBytes: 100,
	}
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
		data := charttest.Raw(t, "c/x", inner)
		for range depth - 1 {
			data = charttest.Raw(t, "c/charts/sub.tgz", string(data))
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
		"Chart":          {"a chart passes", charttest.Raw(t, "c/Chart.yaml", "name: c", "c/charts/d/Chart.yaml", "name: d"), ""},
		"Directory":      {"so do directories", charttest.Raw(t, &tar.Header{Typeflag: tar.TypeDir, Name: "c/", Mode: 0o700}, ""), ""},
		"Nested":         {"and archives in it", nest(3, "x"), ""},
		"NotGzip":        {"what is not gzip does not", []byte("PK"), "not a gzipped tar"},
		"NotTar":         {"nor what is not tar", charttest.Gzip(t, noise(2000)), "reading it"},
		"Symlink":        {"a link does not", charttest.Raw(t, &tar.Header{Typeflag: tar.TypeSymlink, Name: "c/a", Linkname: "/etc/passwd"}, ""), "neither a file nor a directory"},
		"Hardlink":       {"a hard link does not", charttest.Raw(t, &tar.Header{Typeflag: tar.TypeLink, Name: "c/a", Linkname: "b"}, ""), "neither a file nor a directory"},
		"Device":         {"a device does not", charttest.Raw(t, &tar.Header{Typeflag: tar.TypeChar, Name: "c/null"}, ""), "neither a file nor a directory"},
		"Absolute":       {"an absolute path does not", charttest.Raw(t, "/c/a", ""), "not a relative path"},
		"Up":             {"a path that leaves does not", charttest.Raw(t, "c/../../a", ""), "leaves the archive"},
		"UpInWindows":    {"nor one that does it in Windows' way", charttest.Raw(t, `c\..\a`, ""), `has a \ in its path`},
		"LongPath":       {"a path that is longer than any does not", charttest.Raw(t, "c/"+strings.Repeat("charts/a/", 2000)+"Chart.yaml", ""), "has a path of 18012 bytes"},
		"Outside":        {"a file beside the folder does not", charttest.Raw(t, "a", ""), "outside the chart's folder"},
		"Twice":          {"one file twice does not: readers would differ in which they see", charttest.Raw(t, "c/a", "1", "d/./a", "2"), "there twice"},
		"ManyFiles":      {"too many files do not", charttest.Raw(t, many...), "more than 10 files"},
		"LargeFile":      {"a file that is too large does not", charttest.Raw(t, "c/a", noise(700<<10)), "716800 bytes"},
		"LargeInAll":     {"too much in all does not", charttest.Raw(t, "c/a", noise(500<<10), "c/b", noise(600<<10)), "more than 1048576 bytes in all"},
		"LargeNested":    {"nor too much over all nested archives, each of which is small", charttest.Raw(t, "c/charts/a.tgz", string(charttest.Raw(t, "a/x", strings.Repeat("x", 590<<10))), "c/charts/b.tgz", string(charttest.Raw(t, "b/x", strings.Repeat("y", 590<<10)))), "in all"},
		"Deep":           {"archives in archives in archives do not", nest(4, "x"), "nested more than 3 deep"},
		"BadNested":      {"a subchart that is no archive does not", charttest.Raw(t, "c/charts/a.tgz", "no"), "archive charts/a.tgz is not a gzipped tar"},
		"NotASubchart":   {"an archive that Helm would not open is a file", charttest.Raw(t, "c/files/charts/a.tgz", "no", "c/charts/_a.tgz", "no"), ""},
		"LinkInSubchart": {"the rules hold in subcharts", charttest.Raw(t, "c/charts/d/charts/a.tgz", string(charttest.Raw(t, &tar.Header{Typeflag: tar.TypeSymlink, Name: "c/a", Linkname: "/"}, ""))), "archive charts/d/charts/a.tgz: entry"},
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
		if err := archive.Scan(charttest.Raw(t, "c/a", strings.Repeat("x", 2<<20)), generous); err == nil || !strings.Contains(err.Error(), "50 times its size") {
			t.Errorf("a bomb does not pass: %v", err)
		}
	})
}

// with is the header of a file that says something odd.
func with(change func(*tar.Header)) *tar.Header {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: "c/a", Mode: 0o600}
	change(h)
	return h
}

func TestScanRefusesWhatReadersDisagreeAbout(t *testing.T) {
	chart := charttest.Raw(t, "c/Chart.yaml", "name: c")
	second := charttest.Gzip(t, "more")
	for name, c := range map[string]struct {
		promise string
		data    []byte
		say     string
	}{
		"Drive":         {"a path of Windows' that is absolute", charttest.Raw(t, "C:/c/a", ""), "not a relative path"},
		"DriveInside":   {"one in the chart's folder", charttest.Raw(t, "c/C:/a", ""), "none that Helm takes"},
		"MixedSlashes":  {"a path that is a subchart's to Helm and to nobody else", charttest.Raw(t, `x/y\charts\a.tgz`, ""), `has a \ in its path`},
		"NoFolder":      {"a folder that is called like the chart's own file", charttest.Raw(t, "Chart.yaml/a", ""), "none that Helm takes"},
		"DoubleSlash":   {"a path that is absolute below the folder", charttest.Raw(t, "c//a", ""), "none that Helm takes"},
		"FileAndFolder": {"a folder that is a file too", charttest.Raw(t, "c/a", "", "c/a/b", ""), "a file and a folder"},
		"FolderAndFile": {"and the other way round", charttest.Raw(t, "c/a/b/c", "", "c/a", ""), "a file and a folder"},
		"ManyFolders":   {"folders in folders in folders", charttest.Raw(t, "c/"+strings.Repeat("a/", 65)+"b", ""), "more than 64 folders deep"},
		"Mode":          {"a file whose mode is a directory's: Helm skips it", charttest.Raw(t, with(func(h *tar.Header) { h.Mode = 0o40644 }), ""), "mode 40644"},
		"LinkMode":      {"and one whose mode is a link's", charttest.Raw(t, with(func(h *tar.Header) { h.Mode = 0o120777 }), ""), "mode 120777"},
		"Fifo":          {"a pipe", charttest.Raw(t, with(func(h *tar.Header) { h.Typeflag = tar.TypeFifo }), ""), "neither a file nor a directory"},
		"Global": {"a global header that sets more than a comment", charttest.Raw(t, &tar.Header{
			Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"path": "c/b"},
		}, ""), "global header"},
		"Sparse":        {"a file of holes, which is large and takes nothing", sparse(t), "sparse file"},
		"SecondMember":  {"a second archive behind the first", append(bytes.Clone(chart), chart...), "follow the gzipped tar"},
		"Trailing":      {"anything else behind it", append(bytes.Clone(chart), 0), "1 bytes follow"},
		"BehindTheEnd":  {"anything behind the end of the tar", charttest.Gzip(t, string(unzip(t, chart))+strings.Repeat("\x00", 512)+"more"), "behind the end of the tar"},
		"BrokenSum":     {"an archive whose checksum does not hold", broken(chart), "checksum"},
		"HalfAnArchive": {"half an archive", chart[:len(chart)-12], "unexpected EOF"},
		"SecondInSub":   {"and all that in a subchart", charttest.Raw(t, "c/charts/a.tgz", string(append(bytes.Clone(chart), second...))), "archive charts/a.tgz: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := archive.Scan(c.data, archive.DefaultLimits)
			if err == nil || !strings.Contains(err.Error(), c.say) || refusal.Reason(err) != v1alpha1.ReasonInvalidChart {
				t.Errorf("%s is refused: error %v, want it to say %q", c.promise, err, c.say)
			}
		})
	}
	padded := charttest.Gzip(t, string(unzip(t, chart))+strings.Repeat("\x00", 10240))
	if err := archive.Scan(padded, archive.DefaultLimits); err != nil {
		t.Errorf("padding of a tar is no harm: %v", err)
	}
	commit := &tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "0123"}}
	if err := archive.Scan(charttest.Raw(t, commit, "", "c/Chart.yaml", "name: c"), archive.DefaultLimits); err != nil {
		t.Errorf("what git archive writes is none either: %v", err)
	}
}

func TestScanCountsWhatLoadingCosts(t *testing.T) {
	limits := archive.DefaultLimits
	limits.YAMLBytes, limits.YAMLNodes, limits.ActionBytes = 2000, 200, 100
	bomb := "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n"
	for name, c := range map[string]struct {
		promise string
		files   []any
		say     string
	}{
		"Comments":  {"comments are no nodes", []any{"c/values.yaml", strings.Repeat("# - a: {}\n", 150)}, ""},
		"Nodes":     {"nodes are counted", []any{"c/values.yaml", "a: [" + strings.Repeat("[],", 150)}, "more than 200 nodes"},
		"AllCharts": {"over all charts", []any{"c/values.yaml", "a: [" + strings.Repeat("b,", 150), "c/charts/d/values.yaml", "a: [" + strings.Repeat("b,", 150)}, "file charts/d/values.yaml: the charts' YAML"},
		"NotLoaded": {"but not in what is not loaded", []any{"c/files/values.yaml", strings.Repeat("a:\n", 300)}, ""},
		"Bomb":      {"an alias costs what it stands for", []any{"c/Chart.yaml", bomb}, "more than 200 nodes"},
		"LongAlias": {"in bytes as well", []any{"c/requirements.yaml", "a: &a " + strings.Repeat("x", 900) + "\nb: [*a,*a]\n"}, "more than 2000 bytes"},
		"Cycle":     {"an anchor that holds itself is refused", []any{"c/values.yaml", "a: &a {b: *a}\n"}, "holds itself"},
		"Alias":     {"a few aliases are no harm", []any{"c/values.yaml", "a: &a {b: c}\nd: {<<: *a}\n"}, ""},
		"NoYAML":    {"with an alias, what does not parse is refused", []any{"c/values.yaml", "a: &a [\n*a"}, "decoding it"},
		"Actions":   {"actions are counted", []any{"c/templates/a.yaml", "{{" + strings.Repeat("a ", 60) + "}}"}, "more than 100 bytes of the templates"},
		"Quoted":    {"also where quotes hide their end", []any{"c/templates/a.yaml", `{{ "\"}}" ` + "`}}` '}}' /*}}*/" + strings.Repeat("a ", 60) + "}}"}, "more than 100 bytes of the templates"},
		"InQuotes":  {"what is in quotes, or a comment, is text", []any{"c/templates/a.yaml", "{{ `" + strings.Repeat("}}", 100) + "` | quote }}{{/*" + strings.Repeat("a ", 100) + "*/}}"}, ""},
		"Quotes":    {"quotes are not", []any{"c/templates/a.yaml", "{{ print " + strings.Repeat("`` ", 60) + "}}"}, "more than 100 bytes of the templates"},
		"Text":      {"text is not", []any{"c/templates/a.yaml", strings.Repeat("a lot of text {{a}} ", 15)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := archive.Scan(charttest.Raw(t, c.files...), limits)
			if c.say == "" && err != nil || c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say)) {
				t.Errorf("%s: error %v, want it to say %q", c.promise, err, c.say)
			}
		})
	}
}

func TestScanRefusesASchemaThatReadsFiles(t *testing.T) {
	for text, refused := range map[string]bool{
		`{"$ref": "#/definitions/a", "definitions": {"a": {}}}`:                    false,
		`{"$ref": "values.schema.json#/definitions/a"}`:                            false,
		`{"$schema": "http://json-schema.org/draft-07/schema#"}`:                   false,
		`{"properties": {"a": {"$ref": "https://example.org/a.json"}}}`:            false,
		`{"$id": "https://example.org/", "properties": {"a": {"$ref": "a.json"}}}`: false,
		`{"properties": {"id": {"type": "string"}, "$ref": {"type": "string"}}}`:   false,
		`not JSON`: false,
		`{"properties": {"a": {"$ref": "file:///etc/passwd"}}}`:                                     true,
		`{"properties": {"a": {"$ref": "FILE:/etc/passwd#/a"}}}`:                                    true,
		`{"items": [{"$ref": "/dev/zero"}]}`:                                                        true,
		`{"$schema": "file:///etc/passwd"}`:                                                         true,
		`{"$id": "https://example.org/", "$ref": "/dev/zero"}`:                                      true,
		`{"$id": "file:///etc/", "properties": {"a": {"$ref": "passwd"}}}`:                          true,
		`{"properties": {"a": {"$id": "https://example.org/", "$ref": "b"}}, "$id": "file:///c"}`:   true,
		`{"properties": {"id": {"$ref": "/dev/zero"}}}`:                                             true,
		strings.Repeat(`{"not":`, 300) + `{}` + strings.Repeat(`}`, 300):                            true,
		strings.Repeat(`{"properties":{"id":`, 120) + `{"$ref":"../a"}` + strings.Repeat(`}}`, 120): true,
	} {
		err := archive.Scan(charttest.Raw(t, "c/charts/d/values.schema.json", text), archive.DefaultLimits)
		if (err != nil) != refused {
			t.Errorf("%.80s: refused %t, want %t: %v", text, err != nil, refused, err)
		}
	}
}

// sparse is an archive with a file of 4 MiB that has no contents, in GNU's PAX format:
// Go writes none, so it is put together from two entries that it does write.
func sparse(t *testing.T) []byte {
	t.Helper()
	plain := string(unzip(t, charttest.Raw(t, with(func(h *tar.Header) {
		h.Format = tar.FormatPAX
		h.PAXRecords = map[string]string{"gnu.sparse.size": "4194304", "gnu.sparse.numblocks": "0", "gnu.sparse.map": ""}
	}), "")))
	return charttest.Gzip(t, strings.ReplaceAll(plain, "gnu.sparse", "GNU.sparse"))
}

func unzip(t testing.TB, data []byte) []byte {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// broken has another checksum.
func broken(data []byte) []byte {
	data = bytes.Clone(data)
	data[len(data)-8] ^= 1
	return data
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
