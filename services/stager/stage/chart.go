package stage

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
)

// Chart is a chart archive, read. It is safe for concurrent use, and remembers the
// pieces that were made of it.
type Chart struct {
	data     []byte
	digest   string
	root     *folder
	meta     *chart.Metadata
	declared []chart.Dependency
	subs     []Subchart
	sight    []string // paths into the values that all pieces can see
	imports  bool     // it, or a chart in it, has import-values

	mu     sync.Mutex
	take   taker
	pieces map[string]Piece // by subchart
	forms  map[bool]*form   // whether subcharts are taken apart in it
}

// Subchart is a first-level dependency under the name that the chart gives it.
type Subchart struct {
	// Name of the chart, or its alias.
	Name string
	// Version of the chart.
	Version string
	// Library charts bring named templates and no objects; they are not released.
	Library bool

	folder *folder
}

// Open reads a chart archive, which may be anybody's: it is scanned first.
// Whatever is wrong with it is a refusal with reason InvalidChart.
func Open(data []byte) (*Chart, error) {
	files, err := archive.Read(data, archive.DefaultLimits)
	if err != nil {
		return nil, err
	}
	root, err := newFolder("", files)
	if err != nil {
		return nil, invalid(err)
	}
	if err := root.sane(""); err != nil {
		return nil, invalid(err)
	}
	c := &Chart{data: data, digest: archive.Digest(data), root: root, take: newTaker(), pieces: map[string]Piece{}, forms: map[bool]*form{}}
	l, err := root.load()
	if err != nil {
		return nil, invalid(err)
	}
	meta := *l.chart.Metadata
	c.meta = &meta
	for _, d := range meta.Dependencies { // Helm writes into them as it resolves them
		c.declared = append(c.declared, *d)
	}
	if c.sight, err = sees(l.chart); err != nil {
		return nil, invalid(err)
	}
	c.imports = importing(l.chart)
	if c.subs, err = l.subcharts(); err != nil {
		return nil, invalid(err)
	}
	return c, nil
}

func invalid(err error) error { return refusal.Because(v1alpha1.ReasonInvalidChart, err) }

// Name is the chart's name.
func (c *Chart) Name() string { return c.meta.Name }

// Version is the chart's version, as its Chart.yaml writes it.
func (c *Chart) Version() string { return c.meta.Version }

// Digest of the archive, sha256:<hex>.
func (c *Chart) Digest() string { return c.digest }

// Size is about what the chart occupies in memory, in bytes: the archive, its
// files, as they are and as templates taken apart, and the pieces made so far.
func (c *Chart) Size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.data) + 2*c.root.size()
	for _, p := range c.pieces {
		n += len(p.Archive)
	}
	return n
}

// Subcharts are the first-level dependencies that the chart has, whether or not
// any values enable them, sorted by name.
func (c *Chart) Subcharts() []Subchart { return slices.Clone(c.subs) }

// Values decodes the values of a release as helm-controller does.
func Values(v *apiextensionsv1.JSON) (map[string]any, error) {
	values := map[string]any{}
	if v == nil || len(v.Raw) == 0 {
		return values, nil
	}
	if err := json.Unmarshal(v.Raw, &values); err != nil {
		return nil, invalid(fmt.Errorf("the values are not a map: %w", err))
	}
	if values == nil { // they are null
		values = map[string]any{}
	}
	return values, nil
}

// folder is a chart in the archive: the outermost one, or one under charts/.
type folder struct {
	// dir is the name under the parent's charts/: "redis", "redis-1.0.0.tgz".
	dir string
	// packed is the archive that the folder came out of; nil where it was a folder.
	packed []byte
	// files of the chart itself, sorted, with whatever under charts/ is no chart.
	files []archive.File
	// charts under charts/, sorted by dir.
	charts []*folder
}

// newFolder sorts files into charts as Helm's loader does.
func newFolder(dir string, files []archive.File) (*folder, error) {
	f := &folder{dir: dir}
	inner := map[string][]archive.File{}
	for _, file := range files {
		rest, ok := strings.CutPrefix(file.Name, "charts/")
		name, tail, isDir := strings.Cut(rest, "/")
		switch {
		case !ok, path.Ext(file.Name) == ".prov", strings.HasPrefix(name, "_"), strings.HasPrefix(name, "."):
			f.files = append(f.files, file)
		case isDir && path.Ext(name) == ".tgz":
			return nil, fmt.Errorf("charts/%s is a folder; a name that ends in .tgz is for an archive", name)
		case isDir:
			inner[name] = append(inner[name], archive.File{Name: tail, Data: file.Data})
		case path.Ext(name) == ".tgz":
			packed, err := archive.Unpack(file.Data) // scanned with the outermost
			if err != nil {
				return nil, fmt.Errorf("unpacking charts/%s: %w", name, err)
			}
			sub, err := newFolder(name, packed)
			if err != nil {
				return nil, fmt.Errorf("in charts/%s: %w", name, err)
			}
			sub.packed = file.Data
			f.charts = append(f.charts, sub)
		default:
			return nil, fmt.Errorf("charts/%s is neither a chart's folder nor its archive", name)
		}
	}
	for name, files := range inner {
		sub, err := newFolder(name, files)
		if err != nil {
			return nil, fmt.Errorf("in charts/%s: %w", name, err)
		}
		f.charts = append(f.charts, sub)
	}
	slices.SortFunc(f.charts, func(a, b *folder) int { return strings.Compare(a.dir, b.dir) })
	return f, nil
}

// sane refuses templates that no parser can be given, ours or helm-controller's.
func (f *folder) sane(at string) error {
	for _, file := range f.files {
		if template(file.Name) && nesting(string(file.Data)) > maxNesting {
			return fmt.Errorf("template %s nests its actions more than %d deep", path.Join(at, file.Name), maxNesting)
		}
	}
	for _, sub := range f.charts {
		if err := sub.sane(path.Join(at, "charts", sub.dir)); err != nil {
			return err
		}
	}
	return nil
}

// clone is deep in folders and shares the contents of files.
func (f *folder) clone() *folder { return f.twin(map[*folder]*folder{}) }

// twin is clone, and adds each folder's to twins.
func (f *folder) twin(twins map[*folder]*folder) *folder {
	c := &folder{dir: f.dir, packed: f.packed, files: slices.Clone(f.files)}
	twins[f] = c
	for _, sub := range f.charts {
		c.charts = append(c.charts, sub.twin(twins))
	}
	return c
}

// size of all files, in bytes, with a kibibyte for what each costs besides.
func (f *folder) size() int {
	n := 0
	for _, file := range f.files {
		n += len(file.Data) + 1<<10
	}
	for _, sub := range f.charts {
		n += sub.size()
	}
	return n
}

// walk visits the folder and all below it.
func (f *folder) walk(visit func(*folder)) {
	visit(f)
	for _, sub := range f.charts {
		sub.walk(visit)
	}
}

func (f *folder) file(name string) *archive.File {
	if i := slices.IndexFunc(f.files, func(file archive.File) bool { return file.Name == name }); i >= 0 {
		return &f.files[i]
	}
	return nil
}

// set writes a file of the chart.
func (f *folder) set(name string, data []byte) {
	if file := f.file(name); file != nil {
		file.Data = data
	} else {
		f.files = append(f.files, archive.File{Name: name, Data: data})
	}
}

// drop a file of the chart; false where it has none of that name.
func (f *folder) drop(name string) bool {
	n := len(f.files)
	f.files = slices.DeleteFunc(f.files, func(file archive.File) bool { return file.Name == name })
	return len(f.files) < n
}

// all is every file below the folder. A packed chart in which nothing has changed
// (packed is still there) is the archive that it was.
func (f *folder) all() ([]archive.File, error) {
	files := slices.Clone(f.files)
	for _, sub := range f.charts {
		at := "charts/" + sub.dir
		if sub.packed != nil {
			files = append(files, archive.File{Name: at, Data: sub.packed})
			continue
		}
		inner, err := sub.all()
		if err != nil {
			return nil, err
		}
		if path.Ext(sub.dir) == ".tgz" {
			data, err := archive.Write(strings.TrimSuffix(sub.dir, ".tgz"), inner)
			if err != nil {
				return nil, err
			}
			files = append(files, archive.File{Name: at, Data: data})
			continue
		}
		for _, file := range inner {
			files = append(files, archive.File{Name: at + "/" + file.Name, Data: file.Data})
		}
	}
	return files, nil
}

// loaded is a chart as Helm sees it, and where each part of it came from.
type loaded struct {
	chart *chart.Chart
	// origin of a chart, by its first raw file: Helm copies charts to give them
	// aliases, and the copies share their files.
	origin map[*chart.File]*folder
}

// load is Helm's loader, but in the order of the folders; Helm's own is random
// where one dependency matches two charts.
func (f *folder) load() (*loaded, error) {
	l := &loaded{origin: map[*chart.File]*folder{}}
	var err error
	l.chart, err = l.add(f)
	return l, err
}

func (l *loaded) add(f *folder) (*chart.Chart, error) {
	buffered := make([]*loader.BufferedFile, 0, len(f.files))
	for _, file := range f.files {
		buffered = append(buffered, &loader.BufferedFile{Name: file.Name, Data: file.Data})
	}
	c, err := loader.LoadFiles(buffered)
	if err != nil {
		if f.dir != "" {
			return nil, fmt.Errorf("loading subchart %s: %w", f.dir, err)
		}
		return nil, fmt.Errorf("loading the chart: %w", err)
	}
	l.origin[c.Raw[0]] = f
	for _, sub := range f.charts {
		d, err := l.add(sub)
		if err != nil {
			return nil, err
		}
		c.AddDependency(d)
	}
	return c, nil
}

// from is the folder that a chart came from.
func (l *loaded) from(c *chart.Chart) *folder { return l.origin[c.Raw[0]] }

// enableAll lets Helm name and match all dependencies, whatever the values. Those of
// the charts are left out: where they have no map for a subchart Helm refuses the
// chart, unless the user's values have one.
func (l *loaded) enableAll() error {
	var open func(*chart.Chart)
	open = func(c *chart.Chart) {
		c.Values = nil
		for _, d := range c.Metadata.Dependencies {
			d.Condition, d.Tags, d.ImportValues = "", nil, nil
		}
		for _, sub := range c.Dependencies() {
			open(sub)
		}
	}
	open(l.chart)
	unshare(l.chart)
	if err := chartutil.ProcessDependencies(l.chart, nil); err != nil {
		return fmt.Errorf("resolving the dependencies of %s: %w", l.chart.Name(), err)
	}
	return nil
}

// subcharts are all first-level dependencies, sorted by name. It uses the loaded
// chart up.
func (l *loaded) subcharts() ([]Subchart, error) {
	if err := l.enableAll(); err != nil {
		return nil, err
	}
	return l.firstLevel(), nil
}

// firstLevel are the first-level dependencies that Helm has resolved.
func (l *loaded) firstLevel() []Subchart {
	var subs []Subchart
	for _, d := range l.chart.Dependencies() {
		subs = append(subs, Subchart{
			Name:    d.Name(),
			Version: d.Metadata.Version,
			Library: library(d),
			folder:  l.from(d),
		})
	}
	slices.SortStableFunc(subs, func(a, b Subchart) int { return strings.Compare(a.Name, b.Name) })
	return subs
}

func library(c *chart.Chart) bool { return strings.EqualFold(c.Metadata.Type, "library") }
