// Package bundle moves what groups need to where there is no internet: the charts, with
// their digests and provenance, and the groups' manifests, in one file.
package bundle

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"orkestra.dev/services/stager/archive"
)

// FormatVersion of the bundles that are written, and the only one that is read.
const FormatVersion = 1

// indexName is the first file of a bundle. All others follow in the order of their
// paths, each once.
const indexName = "bundle.json"

// Bounds on a bundle, in bytes. A chart may have as much as the stager takes.
const (
	maxIndex    = 16 << 20
	maxManifest = 4 << 20
	maxArchive  = 10 << 20
	maxProof    = 1 << 20
	maxBundle   = 16 << 30
)

// Index is bundle.json: what is in a bundle.
type Index struct {
	FormatVersion int     `json:"formatVersion"`
	Groups        []Group `json:"groups"`
	Charts        []Chart `json:"charts"`
}

// Group is an ApplicationGroup, with its manifest in a file.
type Group struct {
	Name string `json:"name"`
	File
	Applications []Application `json:"applications"`
}

// Application of a group.
type Application struct {
	Name string `json:"name"`
	// Chart is a number in the index's charts, from 0.
	Chart int `json:"chart"`
}

// Chart that was found, with its archive in a file. Where a group asks for one chart in
// two ways it is there twice, and its file once.
type Chart struct {
	// URL of the repository, without user, password and query.
	URL string `json:"url"`
	// Name and Version as Chart.yaml has them.
	Name    string `json:"name"`
	Version string `json:"version"`
	// RequestedVersion and RequestedDigest are what the group asked for.
	RequestedVersion string `json:"requestedVersion"`
	RequestedDigest  string `json:"requestedDigest,omitempty"`
	File
	// Provenance is Helm's .prov file, where the group asks for it.
	Provenance *File `json:"provenance,omitempty"`
	// Image has the signatures of cosign, where the group asks for them.
	Image *Image `json:"image,omitempty"`
}

// File of a bundle.
type File struct {
	Path string `json:"file"`
	// Digest, sha256:<hex>.
	Digest string `json:"digest"`
	// Size in bytes.
	Size int64 `json:"size"`
}

func fileOf(path string, data []byte) File {
	return File{Path: path, Digest: archive.Digest(data), Size: int64(len(data))}
}

func (c *Chart) String() string { return "chart " + c.Name + " " + c.Version }

// archivePath is where a chart's archive is. Two repositories may have different charts
// of one name and version.
func archivePath(name, version, digest string) string {
	return "charts/" + strings.TrimPrefix(digest, "sha256:")[:12] + "/" + name + "-" + version + ".tgz"
}

func provenancePath(name, version, digest, proof string) string {
	return archivePath(name, version, digest) + "." + strings.TrimPrefix(proof, "sha256:")[:12] + ".prov"
}

func manifestPath(group string) string { return "groups/" + group + ".yaml" }

var (
	names   = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
	digests = regexp.MustCompile(`^sha256:[a-f0-9]{64}$`)
)

// named tells whether a chart's name and version may be part of a path and of a URL.
func named(name, version string) error {
	if len(name) > 250 || !names.MatchString(name) {
		return fmt.Errorf("%.80q is not the name of a chart", name)
	}
	if _, err := semver.NewVersion(version); err != nil || len(version) > 256 {
		return fmt.Errorf("%.80q is not the version of a chart", version)
	}
	return nil
}

// validate an index that may be anybody's. Each path has to be the one that we would
// have given the file, so none leads anywhere else.
func (x *Index) validate() error {
	if x.FormatVersion != FormatVersion {
		return fmt.Errorf("it has format version %d, and this orkestra reads %d: use the one that saved it", x.FormatVersion, FormatVersion)
	}
	if len(x.Groups) == 0 {
		return errors.New("it holds no groups")
	}
	for i := range x.Charts {
		c := &x.Charts[i]
		if err := named(c.Name, c.Version); err != nil {
			return err
		}
		if err := c.check(func() string { return archivePath(c.Name, c.Version, c.Digest) }, maxArchive); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
		if p := c.Provenance; p != nil {
			if err := p.check(func() string { return provenancePath(c.Name, c.Version, c.Digest, p.Digest) }, maxProof); err != nil {
				return fmt.Errorf("provenance of %s: %w", c, err)
			}
		}
		if c.Image == nil {
			continue
		}
		if err := c.Image.validate(); err != nil {
			return fmt.Errorf("image of %s: %w", c, err)
		}
	}
	seen := map[string]bool{}
	for _, g := range x.Groups {
		if !names.MatchString(g.Name) || len(g.Name) > 253 || seen[g.Name] {
			return fmt.Errorf("%.80q is not the name of a group, or is there twice", g.Name)
		}
		seen[g.Name] = true
		if err := g.check(func() string { return manifestPath(g.Name) }, maxManifest); err != nil {
			return fmt.Errorf("group %s: %w", g.Name, err)
		}
		for _, a := range g.Applications {
			if a.Chart < 0 || a.Chart >= len(x.Charts) {
				return fmt.Errorf("group %s: application %.80q has a chart that is not there", g.Name, a.Name)
			}
		}
	}
	_, err := x.files()
	return err
}

func (f *File) check(path func() string, limit int64) error {
	switch {
	case !digests.MatchString(f.Digest):
		return fmt.Errorf("%.80q is not a digest", f.Digest)
	case f.Path != path():
		return fmt.Errorf("its file is %.200q, and has to be %q", f.Path, path())
	case f.Size < 0 || f.Size > limit:
		return fmt.Errorf("its file has %d bytes, %d are allowed", f.Size, limit)
	}
	return nil
}

// files of the bundle besides the index, sorted by path.
func (x *Index) files() ([]File, error) {
	by := map[string]File{}
	var out []File
	var total, images int64
	add := func(f File) error {
		if had, ok := by[f.Path]; ok {
			if had != f {
				return fmt.Errorf("file %s is there with two digests or sizes", f.Path)
			}
			return nil
		}
		by[f.Path] = f
		out = append(out, f)
		if total += f.Size; total > maxBundle {
			return fmt.Errorf("it holds more than %d bytes", int64(maxBundle))
		}
		return nil
	}
	for _, g := range x.Groups {
		if err := add(g.File); err != nil {
			return nil, err
		}
	}
	for _, c := range x.Charts {
		if err := add(c.File); err != nil {
			return nil, err
		}
		if c.Provenance != nil {
			if err := add(*c.Provenance); err != nil {
				return nil, err
			}
		}
		for _, f := range c.Image.files() {
			if err := add(f); err != nil {
				return nil, err
			}
			if images += f.Size; images > maxImages {
				return nil, fmt.Errorf("the manifests and signatures in it have more than %d bytes", int64(maxImages))
			}
		}
	}
	slices.SortFunc(out, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return out, nil
}

// location is a URL without what may be secret in it.
func location(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not a URL)"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
