package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"helm.sh/helm/v3/pkg/chart"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/manifest"
	"orkestra.dev/services/stager/archive"
)

// Bundle is one that has been looked through: its files are those that its index lists,
// with their digests, its archives are what charts may be, and its groups are groups.
type Bundle struct {
	Index
	path   string
	meta   map[string]*chart.Metadata            // of archives, by path
	groups map[string]*v1alpha1.ApplicationGroup // by name
}

// Open looks through a bundle, which may be anybody's, and keeps of it in memory the
// groups and one file at a time.
func Open(path string) (*Bundle, error) {
	b := &Bundle{path: path, meta: map[string]*chart.Metadata{}, groups: map[string]*v1alpha1.ApplicationGroup{}}
	var charts map[string]*Chart
	var groups map[string]*Group
	err := b.walk(func(f File, data []byte) error {
		if charts == nil { // now the index is known
			charts, groups = b.byPath()
		}
		var err error
		if c := charts[f.Path]; c != nil {
			b.meta[f.Path], err = c.read(data)
		} else if g := groups[f.Path]; g != nil {
			b.groups[g.Name], err = g.read(data)
		}
		if err != nil {
			return fmt.Errorf("bundle %s: file %s: %w", path, f.Path, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// byPath are the charts and groups by the paths of their files.
func (x *Index) byPath() (map[string]*Chart, map[string]*Group) {
	charts, groups := map[string]*Chart{}, map[string]*Group{}
	for i := range x.Charts {
		charts[x.Charts[i].Path] = &x.Charts[i]
	}
	for i := range x.Groups {
		groups[x.Groups[i].Path] = &x.Groups[i]
	}
	return charts, groups
}

// read the archive, which has to be the chart.
func (c *Chart) read(data []byte) (*chart.Metadata, error) {
	meta, err := metadata(data)
	if err == nil && (meta.Name != c.Name || meta.Version != c.Version) {
		return nil, fmt.Errorf("it is chart %.80q %.80q, and the index says %s", meta.Name, meta.Version, c)
	}
	return meta, err
}

// read the manifest of the group, whose applications have to be those of the index.
func (g *Group) read(data []byte) (*v1alpha1.ApplicationGroup, error) {
	set, err := manifest.Read([]string{manifest.Stdin}, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if len(set.Groups) != 1 || len(set.Secrets) > 0 || set.Groups[0].Group.Name != g.Name {
		return nil, fmt.Errorf("it is not the manifest of group %s alone", g.Name)
	}
	doc := set.Groups[0]
	for _, p := range doc.Validate() {
		return nil, p
	}
	apps := doc.Group.Spec.Applications
	if len(apps) != len(g.Applications) {
		return nil, fmt.Errorf("it has %d applications, and the index says %d", len(apps), len(g.Applications))
	}
	for i := range apps {
		if apps[i].Name != g.Applications[i].Name {
			return nil, fmt.Errorf("its application %d is %s, and the index says %.80q", i, apps[i].Name, g.Applications[i].Name)
		}
	}
	return doc.Group, nil
}

// metadata of a chart's archive, which is scanned before Helm sees it.
func metadata(data []byte) (*chart.Metadata, error) {
	files, err := archive.Read(data, archive.DefaultLimits)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Name != "Chart.yaml" {
			continue
		}
		meta := &chart.Metadata{}
		if err := yaml.Unmarshal(f.Data, meta); err != nil {
			return nil, fmt.Errorf("its Chart.yaml does not parse: %w", err)
		}
		if err := meta.Validate(); err != nil {
			return nil, err
		}
		return meta, named(meta.Name, meta.Version)
	}
	return nil, errors.New("it is not a chart: it has no Chart.yaml")
}

// walk reads the bundle as a stream and gives each file, with the digest that it has to
// have, to visit. It reads nothing that the index does not announce.
func (b *Bundle) walk(visit func(File, []byte) error) error {
	src, err := os.Open(b.path)
	if err != nil {
		return fmt.Errorf("reading a bundle: %w", err)
	}
	defer src.Close()
	fault := func(err error) error { return fmt.Errorf("bundle %s: %w", b.path, err) }
	zr, err := gzip.NewReader(src)
	if err != nil {
		return fault(fmt.Errorf("it is not a gzipped tar: %w", err))
	}
	tr := tar.NewReader(zr)
	index, err := next(tr, indexName, maxIndex)
	if err != nil {
		return fault(fmt.Errorf("it is none that orkestra bundle save has written: %w", err))
	}
	var x Index
	if err := json.Unmarshal(index, &x); err != nil {
		return fault(fmt.Errorf("%s does not parse: %w", indexName, err))
	}
	if err := x.validate(); err != nil {
		return fault(fmt.Errorf("%s: %w", indexName, err))
	}
	b.Index = x
	files, err := x.files()
	if err != nil {
		return fault(err)
	}
	for _, f := range files {
		data, err := next(tr, f.Path, f.Size)
		if err == nil && archive.Digest(data) != f.Digest {
			err = fmt.Errorf("it has digest %s, and the index says %s: the bundle was damaged or changed", archive.Digest(data), f.Digest)
		}
		if err != nil {
			return fault(fmt.Errorf("file %s: %w", f.Path, err))
		}
		if err := visit(f, data); err != nil {
			return err
		}
	}
	if h, err := tr.Next(); !errors.Is(err, io.EOF) {
		if err != nil {
			return fault(err)
		}
		return fault(fmt.Errorf("file %.200q is in it, and not in its index", h.Name))
	}
	return nil
}

// next file of the tar, which has to be the one of that name.
func next(tr *tar.Reader, name string, limit int64) ([]byte, error) {
	h, err := tr.Next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s is missing", name)
	case err != nil:
		return nil, err
	case h.Typeflag != tar.TypeReg:
		return nil, fmt.Errorf("entry %.200q is not a regular file (type %q)", h.Name, h.Typeflag)
	case h.Name != name:
		return nil, fmt.Errorf("file %.200q is where %s has to be", h.Name, name)
	case h.Size > limit:
		return nil, fmt.Errorf("%s has %d bytes, %d are allowed", name, h.Size, limit)
	}
	data := make([]byte, h.Size)
	if _, err := io.ReadFull(tr, data); err != nil {
		return nil, err
	}
	return data, nil
}
