// Package charttest makes chart archives out of text, for tests.
package charttest

import (
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

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
// itself written so, indented by one tab, and packed. What comes before the first file
// is a comment.
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
	for _, f := range txtar.Parse([]byte(text)).Files {
		if strings.HasSuffix(f.Name, ".tgz") {
			var inner strings.Builder
			for line := range strings.Lines(string(f.Data)) {
				inner.WriteString(strings.TrimPrefix(line, "\t"))
			}
			f.Data = Archive(t, "inner", inner.String())
		}
		files = append(files, archive.File{Name: f.Name, Data: f.Data})
	}
	return files
}
