package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/bundle"
)

// entry of a bundle's tar.
type entry struct {
	header tar.Header
	data   []byte
}

func entries(t *testing.T, path string) []entry {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []entry
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, entry{*h, data})
	}
}

// rewrite a bundle with other entries.
func rewrite(t *testing.T, path string, change func([]entry) []entry) string {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, e := range change(entries(t, path)) {
		if err := tw.WriteHeader(&e.header); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "bundle.tgz")
	if err := os.WriteFile(out, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestHostile: a bundle comes from outside, and what is not what its index says is
// refused before anything of it is used.
func TestHostile(t *testing.T) {
	from, _ := stock(t)
	good, _ := save(t, request(group("g", chart(from.URL, "mesh", ""), chart(from.URL, "web", "1.0.0"))))
	if _, err := bundle.Open(good); err != nil {
		t.Fatal(err)
	}
	find := func(es []entry, part string) *entry {
		for i := range es {
			if strings.Contains(es[i].header.Name, part) {
				return &es[i]
			}
		}
		t.Fatalf("there is no %s", part)
		return nil
	}
	// index changes the index alone.
	index := func(change func(x *bundle.Index)) func([]entry) []entry {
		return func(es []entry) []entry {
			var x bundle.Index
			if err := json.Unmarshal(es[0].data, &x); err != nil {
				t.Fatal(err)
			}
			change(&x)
			return withIndex(t, es, x)
		}
	}
	manifest := func(change func(g *v1alpha1.ApplicationGroup), more string) func([]entry) []entry {
		return func(es []entry) []entry {
			g := group("g", chart(from.URL, "mesh", ""), chart(from.URL, "web", "1.0.0"))
			change(g)
			return reindex(t, es, "groups/g.yaml", append(manifestOf(t, g), more...))
		}
	}
	same := func(*v1alpha1.ApplicationGroup) {}
	web := func(es []entry) string { return find(es, "web-1.0.0.tgz").header.Name }

	for name, c := range map[string]struct {
		change func([]entry) []entry
		want   string
	}{
		"NoIndex":       {func(es []entry) []entry { return es[1:] }, "bundle.json has to be"},
		"Empty":         {func([]entry) []entry { return nil }, "bundle.json is missing"},
		"IndexNotJSON":  {func(es []entry) []entry { es[0].data = bytes.Repeat([]byte("x"), len(es[0].data)); return es }, "does not parse"},
		"HugeIndex":     {func(es []entry) []entry { es[0].data = make([]byte, 17<<20); es[0].header.Size = 17 << 20; return es }, "are allowed"},
		"NewerFormat":   {index(func(x *bundle.Index) { x.FormatVersion = 2 }), "format version 2"},
		"NoGroups":      {index(func(x *bundle.Index) { x.Groups = nil }), "no groups"},
		"Traversal":     {index(func(x *bundle.Index) { x.Charts[0].Path = "../../etc/passwd" }), "has to be"},
		"NameTraversal": {index(func(x *bundle.Index) { x.Charts[0].Name = "../a" }), "is not the name of a chart"},
		"GroupName":     {index(func(x *bundle.Index) { x.Groups[0].Name = "../g" }), "is not the name of a group"},
		"GroupTwice":    {index(func(x *bundle.Index) { x.Groups = append(x.Groups, x.Groups[0]) }), "there twice"},
		"BadVersion":    {index(func(x *bundle.Index) { x.Charts[0].Version = "1/2" }), "is not the version"},
		"BadDigest":     {index(func(x *bundle.Index) { x.Charts[0].Digest = "md5:1" }), "is not a digest"},
		"HugeChart":     {index(func(x *bundle.Index) { x.Charts[0].Size = 11 << 20 }), "are allowed"},
		"NegativeSize":  {index(func(x *bundle.Index) { x.Charts[0].Size = -1 }), "are allowed"},
		"NoSuchChart":   {index(func(x *bundle.Index) { x.Groups[0].Applications[0].Chart = 2 }), "a chart that is not there"},
		"OtherSize":     {index(func(x *bundle.Index) { x.Charts[0].Size-- }), "are allowed"},
		"TwoSizes": {index(func(x *bundle.Index) {
			c := x.Charts[0]
			c.Size++
			x.Charts = append(x.Charts, c)
		}), "two digests or sizes"},
		"OtherChart": {index(func(x *bundle.Index) {
			x.Charts[0].Version, x.Charts[1].Version = x.Charts[1].Version, x.Charts[0].Version
		}), "has to be"},
		"Missing": {func(es []entry) []entry { return es[:len(es)-1] }, "is missing"},
		"Extra":   {func(es []entry) []entry { return append(es, entry{tar.Header{Name: "../evil", Mode: 0o644}, nil}) }, "not in its index"},
		"Swapped": {func(es []entry) []entry { es[1], es[2] = es[2], es[1]; return es }, "has to be"},
		"Link": {func(es []entry) []entry {
			e := find(es, "web")
			e.header.Typeflag, e.header.Linkname, e.header.Size, e.data = tar.TypeSymlink, "/etc/passwd", 0, nil
			return es
		}, "not a regular file"},
		"Device": {func(es []entry) []entry {
			e := find(es, "web")
			e.header.Typeflag, e.header.Size, e.data = tar.TypeChar, 0, nil
			return es
		}, "not a regular file"},
		"Changed":     {func(es []entry) []entry { find(es, "web").data[20] ^= 1; return es }, "damaged or changed"},
		"OtherInside": {func(es []entry) []entry { return reindexArchive(t, es, web(es), packed(t, "other", "1.0.0", "a: 1")) }, `it is chart "other"`},
		"NotAChart":   {func(es []entry) []entry { return reindexArchive(t, es, web(es), []byte("hello")) }, "not a gzipped tar"},
		"TwoGroups":   {manifest(same, "---\napiVersion: orkestra.azure.microsoft.com/v1alpha1\nkind: ApplicationGroup\nmetadata: {name: h}\nspec: {applications: [{name: a, spec: {chart: {url: 'https://a', name: a}, release: {targetNamespace: a}}}]}\n"), "alone"},
		"Secret":      {manifest(same, "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"), "alone"},
		"OtherGroup":  {manifest(func(g *v1alpha1.ApplicationGroup) { g.Name = "h" }, ""), "alone"},
		"FewerApps":   {manifest(func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications = g.Spec.Applications[:1] }, ""), "the index says 2"},
		"OtherApp":    {manifest(func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[1].Name = "x" }, ""), "application 1 is x"},
		"Cycle":       {manifest(func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[1].Dependencies = []string{"nobody"} }, ""), "nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bundle.Open(rewrite(t, good, c.change))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "bundle.tgz") {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
	for name, data := range map[string][]byte{"NotGzip": []byte("hello"), "Nothing": nil} {
		path := filepath.Join(t.TempDir(), "bundle.tgz")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.Open(path); err == nil || !strings.Contains(err.Error(), "not a gzipped tar") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// reindexArchive puts another archive in the place of one, at the path that the index
// then has to give it.
func reindexArchive(t *testing.T, es []entry, path string, data []byte) []entry {
	t.Helper()
	es = reindex(t, es, path, data)
	var x bundle.Index
	if err := json.Unmarshal(es[0].data, &x); err != nil {
		t.Fatal(err)
	}
	for i := range x.Charts {
		if c := &x.Charts[i]; c.Path == path {
			c.Path = "charts/" + c.Digest[7:19] + "/" + filepath.Base(path)
			for j := range es {
				if es[j].header.Name == path {
					es[j].header.Name = c.Path
				}
			}
		}
	}
	// Files stand in the order of their paths.
	for i := 1; i < len(es); i++ {
		for j := i; j > 1 && es[j].header.Name < es[j-1].header.Name; j-- {
			es[j], es[j-1] = es[j-1], es[j]
		}
	}
	return withIndex(t, es, x)
}
