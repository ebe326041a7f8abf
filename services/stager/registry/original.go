package registry

import (
	"context"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
)

const (
	// maxOriginal bounds what comes along with the archive of a chart, in bytes.
	maxOriginal = 16 << 20
	// maxLayers of one manifest are read. A manifest of cosign has one for each signature.
	maxLayers = 2 * maxSignatures
)

// Original is what an OCI registry has of a chart and its signatures, byte for byte: a
// signature is of a manifest, which nobody can make again.
type Original struct {
	// Manifests, each behind those that it refers to: that of the chart first, or
	// those of its index and then the index, and then those of the signatures.
	Manifests []Manifest
	// Blobs that the manifests name, by digest.
	Blobs map[string][]byte
}

// Manifest of an OCI registry, or an index of some.
type Manifest struct {
	// Digest of Data, sha256:<hex>.
	Digest string
	// MediaType is that of an OCI manifest or of an OCI index.
	MediaType string
	// Tag that signatures are found under, SignatureTag of the chart's; else empty.
	Tag  string
	Data []byte
}

// SignatureTag is where cosign looks for the signatures of a manifest.
func SignatureTag(manifest string) string { return strings.Replace(manifest, ":", "-", 1) + ".sig" }

// Original is only of OCI registries.
func (h *httpRegistry) Original(ctx context.Context, r *Resolved) (*Original, error) {
	_, err := h.Signatures(ctx, r)
	return nil, err
}

// Original reads the manifest, all that it names, and what is signed of it.
func (o *ociRegistry) Original(ctx context.Context, r *Resolved) (*Original, error) {
	ctx, cancel := context.WithTimeout(ctx, o.opts.Timeout)
	defer cancel()
	s, err := o.open(r.ref)
	if err != nil {
		return nil, err
	}
	defer s.close()
	c := &copying{session: s, left: o.opts.MaxArchive + maxOriginal, out: Original{Blobs: map[string][]byte{}}}
	if err := c.manifest(ctx, r.ManifestDigest, true); err != nil {
		return nil, err
	}
	if err := c.signatures(ctx, r.ManifestDigest); err != nil {
		return nil, err
	}
	return &c.out, nil
}

// Original of a chart.
func (s *schemes) Original(ctx context.Context, r *Resolved) (*Original, error) {
	return s.of(r.URL).Original(ctx, r)
}

// copying is an Original in the making.
type copying struct {
	*session
	left int64 // bytes that it may still have
	out  Original
}

func (c *copying) spend(n int) error {
	if c.left -= int64(n); c.left < 0 {
		return tooLarge(c.String()+": the chart with its signatures", c.opts.MaxArchive+maxOriginal)
	}
	return nil
}

// manifest by its digest. One of a chart may be an index of some.
func (c *copying) manifest(ctx context.Context, digest string, mayBeIndex bool) error {
	data, mediaType, err := c.readManifest(ctx, digest)
	if err != nil {
		return err
	}
	if mediaType != ocispec.MediaTypeImageIndex {
		return c.add(ctx, Manifest{Digest: digest, MediaType: ocispec.MediaTypeImageManifest, Data: data})
	}
	var list ocispec.Index
	if err := c.decode(data, &list); err != nil {
		return err
	}
	if !mayBeIndex || len(list.Manifests) > maxNested {
		return refusal.Becausef(v1alpha1.ReasonInvalidChart, "%s: %s is an index of indexes, or of more than %d manifests", c, digest, maxNested)
	}
	for _, d := range list.Manifests {
		if err := c.manifest(ctx, d.Digest.String(), false); err != nil {
			return err
		}
	}
	c.out.Manifests = append(c.out.Manifests, Manifest{Digest: digest, MediaType: mediaType, Data: data})
	return c.spend(len(data))
}

// add a manifest with the blobs that it names.
func (c *copying) add(ctx context.Context, m Manifest) error {
	var names ocispec.Manifest
	if err := c.decode(m.Data, &names); err != nil {
		return err
	}
	if len(names.Layers) > maxLayers {
		return refusal.Becausef(v1alpha1.ReasonInvalidChart, "%s: manifest %s has %d layers, %d are read", c, m.Digest, len(names.Layers), maxLayers)
	}
	for _, d := range append(names.Layers, names.Config) {
		if _, ok := c.out.Blobs[d.Digest.String()]; ok {
			continue
		}
		data, err := c.named(ctx, d)
		if err != nil {
			return err
		}
		if err := c.spend(len(data)); err != nil {
			return err
		}
		c.out.Blobs[d.Digest.String()] = data
	}
	c.out.Manifests = append(c.out.Manifests, m)
	return c.spend(len(m.Data))
}

// named is a blob that a manifest names. The empty one nobody has to have.
func (c *copying) named(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Digest == ocispec.DescriptorEmptyJSON.Digest {
		return ocispec.DescriptorEmptyJSON.Data, nil
	}
	return c.blob(ctx, d, c.opts.MaxArchive)
}

// signatures of a manifest, in both forms of cosign.
func (c *copying) signatures(ctx context.Context, manifest string) error {
	tag := SignatureTag(manifest)
	data, _, err := c.readManifest(ctx, tag)
	switch {
	case err == nil:
		if err := c.add(ctx, Manifest{Digest: digestOfBytes(data), MediaType: ocispec.MediaTypeImageManifest, Tag: tag, Data: data}); err != nil {
			return err
		}
	case refusal.Reason(err) != v1alpha1.ReasonChartNotFound:
		return err
	}
	bundles, err := c.referrers(ctx, manifest, maxSignatures)
	if err != nil {
		return err
	}
	for _, d := range bundles {
		data, _, err := c.readManifest(ctx, d.Digest.String())
		if err != nil {
			return err
		}
		var m ocispec.Manifest
		if err := c.decode(data, &m); err != nil {
			return err
		}
		if !slices.ContainsFunc(m.Layers, isBundle) {
			continue
		}
		if err := c.add(ctx, Manifest{Digest: d.Digest.String(), MediaType: ocispec.MediaTypeImageManifest, Data: data}); err != nil {
			return err
		}
	}
	return nil
}
