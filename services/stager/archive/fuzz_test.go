package archive_test

import (
	"archive/tar"
	"bytes"
	"runtime"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"

	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/internal/charttest"
)

// FuzzScan feeds the scan with anything, gzipped so that the fuzzer sees the tar, and
// as it is. What the scan lets pass Helm loads, or refuses, without a panic and
// within what the limits promise.
func FuzzScan(f *testing.F) {
	chart := []any{"c/Chart.yaml", "{apiVersion: v2, name: c, version: 1.0.0, dependencies: [{name: d, version: '*'}]}"}
	inner := charttest.Raw(f, "d/Chart.yaml", "{apiVersion: v1, name: d, version: 1.0.0}", "d/values.yaml", "a: &a {b: c}\nd: *a\n")
	for _, entries := range [][]any{
		chart,
		append(chart, "c/charts/d.tgz", string(inner), "c/values.yaml", "a: [1, {b: c}]\n"),
		append(chart, "c/templates/a.yaml", "{{ if .Values.a }}a: {{ \"}}\" }}{{ end }}", "c/values.schema.json", `{"$ref":"file:///a"}`),
		append(chart, &tar.Header{Typeflag: tar.TypeSymlink, Name: "c/a", Linkname: "/"}, ""),
		append(chart, &tar.Header{Typeflag: tar.TypeReg, Name: "c/ü", Format: tar.FormatPAX, PAXRecords: map[string]string{"gnu.sparse.map": "0,1"}}, "x"),
	} {
		data := charttest.Raw(f, entries...)
		f.Add(data)
		f.Add(unzip(f, data))
	}
	limits := archive.DefaultLimits
	limits.Bytes, limits.FileBytes, limits.Files = 1<<20, 256<<10, 200
	const most = 64 << 20 // of memory that one run may allocate, all in all
	f.Fuzz(func(t *testing.T, data []byte) {
		packed := charttest.Gzip(t, string(data))
		for _, data := range [][]byte{data, packed} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := archive.Scan(data, limits)
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > most {
				t.Errorf("the scan of %d bytes allocates %d", len(data), n)
			}
			if err != nil {
				continue
			}
			if _, err := loader.LoadArchive(bytes.NewReader(data)); err == nil {
				if _, err := archive.Unpack(data); err != nil {
					t.Errorf("Helm loads it, and it does not unpack: %v", err)
				}
			}
		}
	})
}
