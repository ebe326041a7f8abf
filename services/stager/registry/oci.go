package registry

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/Masterminds/semver/v3"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/internal/flight"
	"orkestra.dev/services/stager/internal/lru"
	"orkestra.dev/services/stager/refusal"
)

// Media types of Helm. Helm's own package of the same names would bring Docker's and
// Helm's configuration files along.
const (
	mediaConfig     = "application/vnd.cncf.helm.config.v1+json"
	mediaChart      = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	mediaChartOld   = "application/tar+gzip"
	mediaProvenance = "application/vnd.cncf.helm.chart.provenance.v1.prov"
)

const (
	// maxManifest is what registries themselves take, in bytes.
	maxManifest = 4 << 20
	// maxConfig bounds a Chart.yaml in JSON, in bytes.
	maxConfig = 1 << 20
	// maxTokens is for how many repositories a token is remembered.
	maxTokens = 256
	// maxNested is how many manifests of an index are looked at for a chart.
	maxNested = 8
)

// ociRegistry is the Registry of OCI registries.
type ociRegistry struct {
	*network
	// tokens that token servers gave, by repository, which has the credentials in it.
	tokens *lru.Cache[auth.Cache]
	looks  flight.Group[*Resolved]
	blobs  *store
}

// Resolve finds the chart by its pin or by its tag.
func (o *ociRegistry) Resolve(ctx context.Context, ref Ref) (*Resolved, error) {
	key := strings.Join([]string{ref.repository(), ref.Name, ref.Version, ref.Digest}, "\n")
	r, err := o.looks.Do(ctx, key, o.opts.Timeout, func(ctx context.Context) (*Resolved, error) {
		s, err := o.open(ref)
		if err != nil {
			return nil, err
		}
		defer s.close()
		return s.resolve(ctx)
	})
	if err != nil {
		return nil, err
	}
	own := *r // it may be shared
	return &own, nil
}

func (s *session) resolve(ctx context.Context) (*Resolved, error) {
	ref := s.ref
	if ref.Digest != "" {
		m, err := s.manifest(ctx, ref.Digest)
		if err == nil {
			return s.pinned(ctx, m)
		}
		// Else the pin may be that of the archive.
		if refusal.Reason(err) != v1alpha1.ReasonChartNotFound {
			return nil, err
		}
	}
	m, err := s.tagged(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.chart(ctx, m)
	if err != nil {
		return nil, err
	}
	if ref.Digest != "" && ref.Digest != r.Digest {
		return nil, refusal.Becausef(v1alpha1.ReasonDigestMismatch,
			"%s: chart %s %s has manifest %s and archive %s, chart.digest asks for %s", s, r.Name, r.Version, r.ManifestDigest, r.Digest, ref.Digest)
	}
	return r, nil
}

// pinned is the chart of a manifest that is pinned; no tag is looked at.
func (s *session) pinned(ctx context.Context, m *manifest) (*Resolved, error) {
	r, err := s.chart(ctx, m)
	if err != nil {
		return nil, err
	}
	if _, ok := pick([]version{{Version: r.Version}}, s.ref.Version); !ok && !anything(s.ref.Version) {
		return nil, refusal.Becausef(v1alpha1.ReasonDigestMismatch,
			"%s: chart.digest %s is chart %s %s, chart.version asks for %s", s, m.digest, r.Name, r.Version, s.ref.Version)
	}
	return r, nil
}

// tagged is the manifest of the version that is asked for. What is a version is taken
// for the tag, as Helm does; what is not, or is no tag, is looked for in the list.
func (s *session) tagged(ctx context.Context) (*manifest, error) {
	want := s.ref.Version
	if _, err := semver.NewVersion(want); err == nil {
		m, err := s.manifest(ctx, tagOf(want))
		if refusal.Reason(err) != v1alpha1.ReasonChartNotFound {
			return m, err
		}
	}
	versions, err := s.versions(ctx)
	if err != nil {
		return nil, err
	}
	v, ok := pick(versions, want)
	if !ok {
		return nil, noVersion("the registry "+s.home.Host, versions, s.ref)
	}
	return s.manifest(ctx, tagOf(v.Version))
}

// tagOf a version: a tag may have no plus.
func tagOf(version string) string { return strings.ReplaceAll(version, "+", "_") }

// manifest is one that was read, with what it is of.
type manifest struct {
	ocispec.Manifest
	// digest of what the tag or the pin names: of the index, where it is in one.
	digest string
}

// manifest under a tag or a digest. Where that is an index, it is the first one in it
// that is of a chart.
func (s *session) manifest(ctx context.Context, tag string) (*manifest, error) {
	data, mediaType, err := s.readManifest(ctx, tag)
	if err != nil {
		return nil, err
	}
	m := &manifest{digest: digestOfBytes(data)}
	if mediaType != ocispec.MediaTypeImageIndex {
		return m, s.decode(data, &m.Manifest)
	}
	var list ocispec.Index
	if err := s.decode(data, &list); err != nil {
		return nil, err
	}
	for i, d := range list.Manifests {
		if i == maxNested {
			break
		}
		if d.MediaType != ocispec.MediaTypeImageManifest || d.Digest.Validate() != nil {
			continue
		}
		if data, _, err = s.readManifest(ctx, d.Digest.String()); err != nil {
			return nil, err
		}
		m.Manifest = ocispec.Manifest{}
		if err := s.decode(data, &m.Manifest); err != nil || m.Config.MediaType == mediaConfig {
			return m, err
		}
	}
	return nil, refusal.Becausef(v1alpha1.ReasonInvalidChart, "%s: %s is an index without a Helm chart in it", s, m.digest)
}

func (s *session) decode(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return refusal.Becausef(v1alpha1.ReasonRepositoryUnreachable, "%s: the registry's answer is not a manifest", s)
	}
	return nil
}

// chart of a manifest: its archive and provenance by their digests, its name and
// version by its configuration, which is its Chart.yaml.
func (s *session) chart(ctx context.Context, m *manifest) (*Resolved, error) {
	if m.Config.MediaType != mediaConfig {
		return nil, refusal.Becausef(v1alpha1.ReasonInvalidChart,
			"%s: %s is not a Helm chart: its configuration is of media type %.100q", s, m.digest, m.Config.MediaType)
	}
	r := &Resolved{URL: "oci://" + s.repo.Registry + "/" + s.repo.Repository + "@" + m.digest, ManifestDigest: m.digest, ref: s.ref}
	for _, l := range m.Layers {
		switch l.MediaType {
		case mediaChart, mediaChartOld:
			r.archive = l
		case mediaProvenance:
			r.provenance = l
		}
	}
	if r.archive.Digest == "" {
		return nil, refusal.Becausef(v1alpha1.ReasonInvalidChart, "%s: %s has no layer of media type %s", s, m.digest, mediaChart)
	}
	r.Digest = r.archive.Digest.String()
	if r.archive.Size > s.opts.MaxArchive {
		return nil, tooLarge(s.String()+": the archive of the chart", s.opts.MaxArchive)
	}
	data, err := s.blob(ctx, m.Config, maxConfig)
	if err != nil {
		return nil, err
	}
	var meta struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	if err := json.Unmarshal(data, &meta); err != nil || meta.Name == "" || meta.Version == "" {
		return nil, refusal.Becausef(v1alpha1.ReasonInvalidChart, "%s: the configuration of %s is not the metadata of a chart", s, m.digest)
	}
	r.Name, r.Version = meta.Name, meta.Version
	return r, nil
}

// promised is what an index at http or https says is in an OCI registry: the
// credentials of the one are not for the other.
func (o *ociRegistry) promised(ctx context.Context, r *Resolved) (*Resolved, error) {
	u, err := parseURL(r.URL)
	if err != nil {
		return nil, err
	}
	path, tag, pinned := strings.Cut(u.Path, "@")
	if i := strings.LastIndex(path, ":"); i >= 0 {
		if !pinned {
			tag = path[i+1:]
		}
		path = path[:i]
	}
	dir, name := "", path
	if i := strings.LastIndex(path, "/"); i >= 0 {
		dir, name = path[:i], path[i+1:]
	}
	if tag == "" {
		tag = tagOf(r.Version)
	}
	s, err := o.open(Ref{URL: (&url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host, Path: dir}).String(), Name: name})
	if err != nil {
		return nil, err
	}
	defer s.close()
	ctx, cancel := context.WithTimeout(ctx, o.opts.Timeout)
	defer cancel()
	m, err := s.manifest(ctx, tag)
	if err != nil {
		return nil, err
	}
	found, err := s.chart(ctx, m)
	if err != nil {
		return nil, err
	}
	if found.Name != r.Name || found.Version != r.Version {
		return nil, refusal.Becausef(v1alpha1.ReasonInvalidChart, "%s is chart %s %s; the index of the repository calls it %s %s",
			r.URL, found.Name, found.Version, r.Name, r.Version)
	}
	if r.Digest != "" && r.Digest != found.Digest && r.Digest != found.ManifestDigest {
		return nil, refusal.Becausef(v1alpha1.ReasonDigestMismatch, "chart %s %s at %s has digest %s, the index of its repository, or chart.digest, says %s",
			r.Name, r.Version, r.URL, found.Digest, r.Digest)
	}
	return found, nil
}

// Fetch gets the archive, which is a layer of the manifest.
func (o *ociRegistry) Fetch(ctx context.Context, r *Resolved) ([]byte, error) {
	s, err := o.open(r.ref)
	if err != nil {
		return nil, err
	}
	defer s.close()
	return s.blob(ctx, r.archive, o.opts.MaxArchive)
}

// blob by its descriptor, which is checked before anything is fetched, and against what
// was.
func (s *session) blob(ctx context.Context, d ocispec.Descriptor, limit int64) ([]byte, error) {
	if d.Digest.Validate() != nil || d.Digest.Algorithm() != "sha256" || d.Size < 0 {
		return nil, refusal.Becausef(v1alpha1.ReasonInvalidChart, "%s: a layer of media type %.100q has no digest of sha256, or no size", s, d.MediaType)
	}
	if d.Size > limit {
		return nil, tooLarge(s.String()+": layer "+d.Digest.String(), limit)
	}
	repository := s.ref.repository() + "/" + s.ref.Name
	return s.blobs.get(ctx, repository, d.Digest.String(), "", func(ctx context.Context) ([]byte, error) {
		data, _, err := s.get(ctx, "blobs/"+d.Digest.String(), nil, d.Size)
		if errors.Is(err, errTooLarge) || err == nil && int64(len(data)) != d.Size {
			return nil, refusal.Becausef(v1alpha1.ReasonDigestMismatch, "%s: layer %s is not of %d bytes, as its manifest says", s, d.Digest, d.Size)
		}
		if err != nil {
			return nil, s.refused(ctx, err, "layer "+d.Digest.String())
		}
		if got := digestOfBytes(data); got != d.Digest.String() {
			return nil, refusal.Becausef(v1alpha1.ReasonDigestMismatch, "%s: layer %s has digest %s", s, d.Digest, got)
		}
		return data, nil
	})
}

// readManifest gets a manifest, and checks it against its digest where that is what it
// is asked for by.
func (s *session) readManifest(ctx context.Context, tag string) (data []byte, mediaType string, err error) {
	accept := http.Header{"Accept": {ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex}}
	data, mediaType, err = s.get(ctx, "manifests/"+tag, accept, maxManifest)
	switch {
	case errors.Is(err, errTooLarge):
		return nil, "", tooLarge(s.String()+": manifest "+tag, maxManifest)
	case err != nil:
		return nil, "", s.refused(ctx, err, "manifest "+tag)
	}
	if got := digestOfBytes(data); strings.HasPrefix(tag, "sha256:") && got != tag {
		return nil, "", refusal.Becausef(v1alpha1.ReasonDigestMismatch, "%s: manifest %s has digest %s", s, tag, got)
	}
	return data, mediaType, nil
}
