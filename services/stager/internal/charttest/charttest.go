// Package charttest makes chart archives out of text, for tests.
package charttest

import (
	"strings"
	"testing"

	"orkestra.dev/services/stager/archive"
)

// Archive packs files written as
//
//	-- Chart.yaml --
//	name: web
//	-- templates/cm.yaml --
//	...
//
// into a chart archive whose folder is root. A file whose name ends in .tgz is
// itself written so, indented by one tab, and packed.
func Archive(t testing.TB, root, text string) []byte {
	t.Helper()
	data, err := archive.Write(root, Files(t, text))
	if err != nil {
		t.Fatalf("packing %s: %v", root, err)
	}
	return data
}

// Files are the files of the text.
func Files(t testing.TB, text string) []archive.File {
	t.Helper()
	var files []archive.File
	for line := range strings.Lines(text) {
		name, ok := strings.CutPrefix(line, "-- ")
		if name, isName := strings.CutSuffix(name, " --\n"); ok && isName {
			files = append(files, archive.File{Name: name})
			continue
		}
		if len(files) == 0 {
			if strings.TrimSpace(line) != "" {
				t.Fatalf("text before the first file: %q", line)
			}
			continue
		}
		last := &files[len(files)-1]
		last.Data = append(last.Data, line...)
	}
	for i, f := range files {
		if !strings.HasSuffix(f.Name, ".tgz") {
			continue
		}
		var inner strings.Builder
		for line := range strings.Lines(string(f.Data)) {
			inner.WriteString(strings.TrimPrefix(line, "\t"))
		}
		files[i].Data = Archive(t, "inner", inner.String())
	}
	return files
}
