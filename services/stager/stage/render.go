package stage

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
	"sigs.k8s.io/yaml"
)

// Release is what templates see of the release.
type Release struct {
	// Name and Namespace, .Release.Name and .Release.Namespace.
	Name, Namespace string
	// Capabilities of the cluster; nil for those that helm template assumes.
	Capabilities *chartutil.Capabilities
}

// Object is what a chart renders: one document.
type Object struct {
	APIVersion string
	// Kind as the template writes it; Text where it is no YAML of an object.
	Kind string
	// Namespace as the template writes it; empty where it leaves it to the release.
	Namespace, Name string
	// Path of the template, without the name of the outermost chart, which is not
	// the same in each piece: "templates/cm.yaml", "charts/redis/templates/cm.yaml".
	Path string
	// Hook is the value of the annotation helm.sh/hook; empty for what is not one.
	Hook string
	// Manifest is the document as YAML with sorted keys.
	Manifest string
}

// ID tells objects apart as a cluster does, versions aside.
func (o Object) ID() string {
	group := ""
	if g, _, ok := strings.Cut(o.APIVersion, "/"); ok {
		group = "." + g
	}
	return o.Kind + group + " " + strings.TrimPrefix(o.Namespace+"/", "/") + o.Name
}

// Render is helm template: the objects and hooks of a chart archive, sorted by
// ID, without CRDs of crds/ folders and without NOTES. It reaches for no cluster
// (lookup finds nothing) and for no network; therefore values are not validated
// against a values.schema.json, which may refer to any URL.
func Render(data []byte, values map[string]any, r Release) ([]Object, error) {
	if _, err := Open(data); err != nil {
		return nil, err
	}
	c, err := loader.LoadArchive(bytes.NewReader(data))
	if err != nil {
		return nil, invalid(fmt.Errorf("loading the chart: %w", err))
	}
	unshare(c)
	if importing(c) {
		if err := bearable(data, values); err != nil {
			return nil, err
		}
	}
	if err := chartutil.ProcessDependencies(c, values); err != nil {
		return nil, fmt.Errorf("resolving the dependencies of %s: %w", c.Name(), err)
	}
	caps := r.Capabilities
	if caps == nil {
		caps = chartutil.DefaultCapabilities
	}
	options := chartutil.ReleaseOptions{Name: r.Name, Namespace: r.Namespace, Revision: 1, IsInstall: true}
	input, err := chartutil.ToRenderValuesWithSchemaValidation(c, values, options, caps, true)
	if err != nil {
		return nil, fmt.Errorf("preparing the values of %s: %w", c.Name(), err)
	}
	rendered, err := engine.Render(c, input)
	if err != nil {
		return nil, fmt.Errorf("rendering %s: %w", c.Name(), err)
	}
	var objects []Object
	for file, text := range rendered {
		if path.Base(file) == "NOTES.txt" {
			continue
		}
		_, file, _ = strings.Cut(file, "/")
		for _, doc := range releaseutil.SplitManifests(text) {
			o, err := decode(doc)
			if err != nil {
				return nil, fmt.Errorf("reading what %s of %s renders: %w", file, c.Name(), err)
			}
			if o == nil {
				continue
			}
			o.Path = file
			objects = append(objects, *o)
		}
	}
	slices.SortFunc(objects, func(a, b Object) int {
		return cmp.Or(cmp.Compare(a.ID(), b.ID()), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Manifest, b.Manifest))
	})
	return objects, nil
}

// bearable refuses a chart whose import-values Helm does not come to the end of.
func bearable(data []byte, values map[string]any) error {
	c, err := loader.LoadArchive(bytes.NewReader(data))
	if err != nil {
		return invalid(fmt.Errorf("loading the chart: %w", err))
	}
	unshare(c)
	return resolve(c, values)
}

// unshare gives each alias of a chart a chart of its own, as Helm 4 does. Helm 3 has
// them share what is in it, and renders that for one of them only. Neither looks for
// aliases below a chart that declares no dependencies.
func unshare(c *chart.Chart) {
	if c.Metadata.Dependencies == nil {
		return
	}
	var subs []*chart.Chart
	aliased := map[*chart.Chart]bool{}
	plain := map[*chart.Chart]bool{}
	for _, d := range c.Metadata.Dependencies {
		i := slices.IndexFunc(c.Dependencies(), func(sub *chart.Chart) bool {
			return sub.Name() == d.Name && chartutil.IsCompatibleRange(d.Version, sub.Metadata.Version)
		})
		switch {
		case i < 0:
		case d.Alias == "":
			plain[c.Dependencies()[i]] = true
		default:
			own := replica(c.Dependencies()[i])
			aliased[c.Dependencies()[i]] = true
			own.Metadata.Name, d.Name = d.Alias, d.Alias
			subs = append(subs, own)
		}
	}
	for _, sub := range c.Dependencies() {
		if !aliased[sub] || plain[sub] {
			subs = append(subs, sub)
		}
	}
	c.SetDependencies(subs...)
	for _, sub := range subs {
		unshare(sub)
	}
}

// replica shares with a chart only what Helm does not write into.
func replica(c *chart.Chart) *chart.Chart {
	out, meta := *c, *c.Metadata
	meta.Dependencies = nil
	for _, d := range c.Metadata.Dependencies {
		own := *d
		meta.Dependencies = append(meta.Dependencies, &own)
	}
	out.Metadata = &meta
	out.SetDependencies()
	for _, sub := range c.Dependencies() {
		out.AddDependency(replica(sub))
	}
	return &out
}

// text is the kind of what a chart renders that is no object: Helm refuses to install
// it, and it can be compared all the same.
const text = "Text"

func decode(doc string) (*Object, error) {
	all, ok := fields(doc)
	switch {
	case !ok:
		return &Object{Kind: text, Manifest: doc}, nil
	case len(all) == 0:
		return nil, nil // comments
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name        string         `json:"name"`
			Namespace   string         `json:"namespace"`
			Annotations map[string]any `json:"annotations"`
		} `json:"metadata"`
	}
	if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
		return nil, err
	}
	manifest, err := yaml.Marshal(all)
	if err != nil {
		return nil, err
	}
	o := &Object{
		APIVersion: head.APIVersion, Kind: head.Kind,
		Namespace: head.Metadata.Namespace, Name: head.Metadata.Name,
		Manifest: string(manifest),
	}
	if hook, ok := head.Metadata.Annotations["helm.sh/hook"].(string); ok {
		o.Hook = hook
	}
	return o, nil
}

// fields of a document; false where it is no YAML of a map.
func fields(doc string) (all map[string]any, ok bool) {
	err := yaml.Unmarshal([]byte(doc), &all)
	return all, err == nil
}
