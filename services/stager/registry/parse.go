package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"sigs.k8s.io/yaml"
)

// index is what we need of an index.yaml. Helm's own type lives in a package that
// brings its plugins (a WebAssembly runtime) and OCI with it, and keeps all metadata
// of every version of every chart, a hundred MiB for a large public repository. What
// it finds is what Helm finds.
type index struct {
	// charts by name; their versions newest first.
	charts map[string][]version
}

type version struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	URLs    []string `json:"urls"`
	Digest  string   `json:"digest"`

	semver *semver.Version
}

// parseIndex reads YAML, or JSON, which is much faster. A version that is none is
// dropped, as Helm does.
func parseIndex(data []byte) (*index, error) {
	var file struct {
		APIVersion string               `json:"apiVersion"`
		Entries    map[string][]version `json:"entries"`
	}
	unmarshal := func(data []byte, into any) error { return yaml.Unmarshal(data, into) }
	if json.Valid(data) {
		unmarshal = json.Unmarshal
	}
	if err := unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("it is not the index of a Helm repository: %w", err)
	}
	if file.APIVersion == "" {
		return nil, errors.New("it is not the index of a Helm repository: it has no apiVersion")
	}
	x := &index{charts: map[string][]version{}}
	for name, versions := range file.Entries {
		var valid []version
		for _, v := range versions {
			var err error
			if v.semver, err = semver.NewVersion(v.Version); err != nil {
				continue
			}
			if v.Name == "" {
				v.Name = name
			}
			valid = append(valid, v)
		}
		slices.SortStableFunc(valid, func(a, b version) int { return b.semver.Compare(a.semver) })
		if len(valid) > 0 {
			x.charts[name] = valid
		}
	}
	return x, nil
}

// find is the version that is written so, else the newest that the constraint
// allows. Pre-releases are allowed only where the constraint names one.
func (x *index) find(name, constraint string) (version, bool) {
	versions := x.charts[name]
	if constraint == "" {
		constraint = "*"
	}
	c, err := semver.NewConstraint(constraint)
	if err != nil {
		return version{}, false
	}
	for _, v := range versions {
		if v.Version == constraint {
			return v, true
		}
	}
	for _, v := range versions {
		if c.Check(v.semver) {
			return v, true
		}
	}
	return version{}, false
}

// reference is the URL of what an index refers to, in a repository: relative ones are
// below the repository's own, and take its query (a token, often) along.
func reference(base, ref string) (string, error) {
	r, err := url.Parse(ref)
	if err != nil {
		return "", errors.New("not a URL")
	}
	if r.IsAbs() {
		return ref, nil
	}
	b, err := url.Parse(base)
	if err != nil {
		return "", errors.New("not a URL")
	}
	b.RawPath = strings.TrimSuffix(b.RawPath, "/") + "/"
	b.Path = strings.TrimSuffix(b.Path, "/") + "/"
	u := b.ResolveReference(r)
	u.RawQuery = b.RawQuery
	return u.String(), nil
}
