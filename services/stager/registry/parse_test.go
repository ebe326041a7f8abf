package registry

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// read is what comes out of an index.
func read(data []byte) (*index, error) {
	return readIndex(bytes.NewReader(data), math.MaxInt64, 64<<20)
}

// readWhole is what comes out of it as one document, as Helm reads it.
func readWhole(data []byte) (*index, error) {
	x := &index{charts: map[string][]version{}, limit: 64 << 20}
	if err := x.add(data); err != nil {
		return nil, err
	}
	for name, versions := range x.charts {
		if x.charts[name] = newestFirst(versions); len(x.charts[name]) == 0 {
			delete(x.charts, name)
		}
	}
	return x, nil
}

var sameIndex = cmp.Options{cmp.AllowUnexported(index{}), cmpopts.IgnoreFields(index{}, "weight", "limit"), cmpopts.EquateEmpty()}

const laidOut = `# an index
apiVersion: v1
entries:
  web:
  - apiVersion: v2
    annotations:
      text: |
        # not a comment
        - not an item
         entries:
    description: >-
      folded: text
      - over lines
    digest: 0123
    name: web
    urls:
    - https://example.org/web-1.0.0.tgz
    - https://example.com/web-1.0.0.tgz
    version: 1.0.0
  # between
  - {name: web, version: 1.1.0, urls: [web-1.1.0.tgz]}
  - name: web
    version: "2.0"
    urls: ["2.tgz"]

  "quoted-1":
      - version: v0.1.0
        urls:
          - q.tgz
      - version: not one
  flow: [{version: 1.0.0, urls: [a.tgz]}, {version: 1.2.0}]
  empty: []
  none:
generated: "2024-01-01T00:00:00Z"
serverInfo:
  contextPath: /
list:
- a
`

var layouts = map[string]string{
	"Helm":        laidOut,
	"CRLF":        "apiVersion: v1\r\nentries:\r\n  a:\r\n  - version: 1.0.0\r\n    urls: [a]\r\n",
	"Document":    "---\napiVersion: v1\nentries:\n  a:\n  - version: 1.0.0\n",
	"Anchors":     "apiVersion: v1\nentries:\n  a:\n  - &x\n    version: 1.0.0\n    urls: [a]\n  b:\n  - *x\n",
	"Merge":       "apiVersion: v1\nx: &x {urls: [a]}\nentries:\n  a:\n  - version: 1.0.0\n    <<: *x\n",
	"Flow":        "{apiVersion: v1, entries: {a: [{version: 1.0.0}]}}",
	"JSON":        `{"apiVersion":"v1","entries":{"a":[{"version":"1.0.0","urls":["a"]},null],"b":null},"generated":{"x":[1,{"y":2}]}}`,
	"Last":        "entries:\n    a:\n        - version: 1.0.0\n          urls: [a]\napiVersion: v1",
	"Odd":         "apiVersion: v1\nentries:\n  a:\n    - version: 1.0.0\n      urls:\n      - \"x\n  y\"\n",
	"Twice":       "apiVersion: v1\nentries:\n  a:\n  - version: 1.0.0\nentries:\n  b:\n  - version: 1.0.0\n",
	"Capitals":    "apiVersion: v1\nENTRIES:\n  a:\n  - version: 1.0.0\n",
	"Numbers":     "apiVersion: v1\nentries:\n  1e3:\n  - version: 1.10\n  true:\n  - version: 2\n",
	"Explicit":    "apiVersion: v1\nentries:\n  ? a\n  : - version: 1.0.0\n",
	"DashAlone":   "apiVersion: v1\nentries:\n  a:\n  -\n    version: 1.0.0\n  -\n    version: 2.0.0\n",
	"NoEntries":   "apiVersion: v1\n",
	"NullEntries": "apiVersion: v1\nentries:\ngenerated: x\n",
	"JSONOnly":    "{\"apiVersion\":\"v1\",\"entries\":{\"a\x7f\u2028\":[{\"version\":\"1.0.0\"}]},\"x\":\"\\ud800\"}",
	"JSONNull":    `{"apiVersion":"v1","entries":{"a":[{"version":"1.0.0"}]},"entries":null}`,
	"BOM":         "\ufeffapiVersion: v1\nentries:\n  a:\n  - version: 1.0.0\n",
}

func TestAnIndexInPartsIsTheWhole(t *testing.T) {
	for name, text := range layouts {
		want, err := readWhole([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for way, r := range map[string]*bytes.Reader{"plain": bytes.NewReader([]byte(text)), "gzip": bytes.NewReader(zipped(t, []byte(text)))} {
			got, err := readIndex(iotest.OneByteReader(r), math.MaxInt64, 64<<20)
			if err != nil {
				t.Errorf("%s, %s: %v", name, way, err)
			} else if diff := cmp.Diff(want, got, sameIndex); diff != "" {
				t.Errorf("%s, %s (-whole +parts):\n%s", name, way, diff)
			}
		}
	}
}

// A line that is cut off, as a comment is, is part of the document too.
func TestAnIndexIsRefusedForWhatIsBetweenItsParts(t *testing.T) {
	for _, bad := range []string{"\xff", "\x01"} {
		for _, text := range []string{
			"# %s\napiVersion: v1\nentries:\n  a:\n  - version: 1.0.0\n",
			"---\n# %s\napiVersion: v1\n",
			"apiVersion: v1\nentries: # %s\n  a:\n  - version: 1.0.0\n",
			"apiVersion: v1\nentries:\n  # %s\n  a:\n  - version: 1.0.0\n",
			"apiVersion: v1\nentries:\n  a: # %s\n  - version: 1.0.0\n",
			"apiVersion: v1\nentries:\n  a:\n  # %s\n  - version: 1.0.0\n",
			"apiVersion: v1\nentries:\n  a:\n  - version: 1.0.0\n# %s",
		} {
			text = fmt.Sprintf(text, bad)
			if x, err := read([]byte(text)); err == nil {
				t.Errorf("%q: want it refused, got %v", text, x.charts)
			}
		}
	}
	for _, text := range []string{
		"# \u2028apiVersion: v2\napiVersion: v1\n",
		"apiVersion: v1\nentries: # \u0085  b: []\n  a:\n  - version: 1.0.0\n",
		"apiVersion: v1\nx: y\u2029entries:\n  b: [{version: 1.0.0}]\nentries:\n  a:\n  - version: 1.0.0\n",
	} {
		want, wantErr := readWhole([]byte(text))
		got, err := read([]byte(text))
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%q: as a whole %v, in parts %v", text, wantErr, err)
		} else if diff := cmp.Diff(want, got, sameIndex); err == nil && diff != "" {
			t.Errorf("%q (-whole +parts):\n%s", text, diff)
		}
	}
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	if _, err := zw.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// large is an index of a size, in bytes, laid out as Helm does.
func large(size int) []byte {
	var b bytes.Buffer
	b.WriteString("apiVersion: v1\nentries:\n")
	for chart := 0; b.Len() < size; chart++ {
		fmt.Fprintf(&b, "  chart-%d:\n", chart)
		for v := range 100 {
			fmt.Fprintf(&b, `  - annotations:
      category: Infrastructure
      images: |
        - image: registry.example.org/charts/image:%[2]d
          name: image
    apiVersion: v2
    appVersion: %[2]d.0.0
    created: "2024-01-01T00:00:00.000000000Z"
    dependencies:
    - name: common
      repository: oci://registry.example.org/charts
      version: 2.x.x
    description: A chart that has a sentence or two to say of what it is for, as most do.
    digest: ab%062[2]d
    home: https://example.org
    keywords:
    - one
    - two
    maintainers:
    - name: Somebody
      url: https://example.org/charts
    name: chart-%[1]d
    sources:
    - https://example.org/charts/tree/main/chart
    urls:
    - https://example.org/charts/chart-%[1]d-%[2]d.0.0.tgz
    version: %[2]d.0.0
`, chart, v)
		}
	}
	return b.Bytes()
}

// largeJSON is one in JSON.
func largeJSON(size int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"apiVersion":"v1","entries":{`)
	for chart := 0; b.Len() < size; chart++ {
		fmt.Fprintf(&b, `"chart-%d":[`, chart)
		for v := range 100 {
			fmt.Fprintf(&b, `{"version":"%d.0.0","digest":"%064d","urls":["chart-%d-%d.0.0.tgz"],"description":%q,"dependencies":[{"name":"common"}]},`,
				v, v, chart, v, strings.Repeat("a sentence of what it is for ", 20))
		}
		b.WriteString(`null],`)
	}
	b.WriteString(`"last":null}}`)
	return b.Bytes()
}

// peak of what is on the heap while f runs, over what was before, in MiB. Garbage is
// collected more often than it would be, so as not to be counted.
func peak(f func()) int64 {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var most atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(2 * time.Millisecond); ; {
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			most.Store(max(most.Load(), now.HeapInuse))
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	f()
	close(stop)
	<-stopped
	return (int64(most.Load()) - int64(before.HeapInuse)) >> 20
}

func TestALargeIndexTakesLittleMemory(t *testing.T) {
	for name, data := range map[string][]byte{"YAML": large(20 << 20), "JSON": largeJSON(20 << 20)} {
		var x *index
		var err error
		begin := time.Now()
		grown := peak(func() { x, err = read(data) })
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: an index of %d MiB, %d charts: %d MiB more at the peak, %d MiB kept, %v", name, len(data)>>20, len(x.charts), grown, x.weight>>20, time.Since(begin))
		if grown > 64 {
			t.Errorf("%s: reading 20 MiB took %d MiB", name, grown)
		}
	}
}

func TestHostileIndexes(t *testing.T) {
	bomb := zipped(t, bytes.Repeat([]byte("# nothing\n"), 10<<20))
	many := []byte("apiVersion: v1\nentries:\n  a:\n" + strings.Repeat("  - version: 1\n", 1_000_000))
	laughs := "apiVersion: v1\na: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		laughs += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 10), ","))
	}
	for name, c := range map[string]struct {
		data []byte
		is   error
		say  string
	}{
		"GzipBomb":    {bomb, errTooLarge, ""},
		"Large":       {bytes.Repeat([]byte("# nothing\n"), 6<<20), errTooLarge, ""},
		"ManyInYAML":  {many, errTooHeavy, ""},
		"ManyInJSON":  {[]byte(`{"apiVersion":"v1","entries":{"a":[` + strings.Repeat(`{},`, 5_000_000) + `{}]}}`), errTooHeavy, ""},
		"Laughs":      {[]byte(laughs), nil, "excessive aliasing"},
		"OneLine":     {[]byte("apiVersion: v1\nx: " + strings.Repeat("y", 40<<20)), nil, "has to be JSON or YAML as helm repo index writes it"},
		"OneVersion":  {[]byte("apiVersion: v1\nentries:\n  a:\n  - version: 1.0.0\n" + strings.Repeat("    x: y\n", 4<<20)), nil, "too large"},
		"OneString":   {[]byte(`{"apiVersion":"v1","x":"` + strings.Repeat("y", 40<<20) + `"}`), nil, "too large"},
		"Deep":        {[]byte(`{"apiVersion":"v1","x":` + strings.Repeat("[", 20<<20)), nil, "nested too deep"},
		"DeepVersion": {[]byte(`{"apiVersion":"v1","entries":{"a":[` + strings.Repeat("[", 1<<20)), nil, "not the index"},
		"FlowLarge":   {[]byte("{apiVersion: v1, entries: {a: [" + strings.Repeat("{version: 1.0.0}, ", 1<<20) + "]}}"), nil, "has to be JSON"},
		"HTML":        {[]byte("<html>"), nil, "not the index of a Helm repository"},
		"NotGzip":     {[]byte{0x1f, 0x8b, 0}, nil, "gzip"},
		"Empty":       {nil, nil, "no apiVersion"},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			begin := time.Now()
			grown := peak(func() { _, err = readIndex(bytes.NewReader(c.data), 50<<20, 16<<20) })
			took := time.Since(begin)
			t.Logf("%d KiB: %d MiB, %v: %v", len(c.data)>>10, grown, took, err)
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.say) {
				t.Errorf("want it refused with %v %q, got %v", c.is, c.say, err)
			}
			if grown > 128 {
				t.Errorf("it took %d MiB", grown)
			}
		})
	}
}

// FuzzIndex: reading ends without a panic, and part by part it is what it is as a whole.
func FuzzIndex(f *testing.F) {
	for _, text := range layouts {
		f.Add([]byte(text))
	}
	f.Add(zipped(f, []byte(layouts["Helm"])))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := read(data)
		if err != nil || bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
			return
		}
		want, err := readWhole(data)
		if err != nil {
			t.Fatalf("it was read in parts, and as a whole it is refused: %v", err)
		}
		if diff := cmp.Diff(want, got, sameIndex); diff != "" {
			t.Errorf("(-whole +parts):\n%s", diff)
		}
	})
}
