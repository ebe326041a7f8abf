package registry

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/errcode"

	digest "github.com/opencontainers/go-digest"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
)

const (
	// maxProof bounds a provenance file, a payload and a bundle, in bytes.
	maxProof = 1 << 20
	// maxSignatures of one chart are read.
	maxSignatures = 32

	mediaBundle         = "application/vnd.dev.sigstore.bundle" // and what its version adds
	annotationSignature = "dev.cosignproject.cosign/signature"
)

// Provenance is the .prov file beside the archive.
func (h *httpRegistry) Provenance(ctx context.Context, r *Resolved) ([]byte, error) {
	at, err := webURL(r.URL)
	if err != nil {
		return nil, err
	}
	at = at.JoinPath()
	at.Path += ".prov"
	if at.RawPath != "" {
		at.RawPath += ".prov"
	}
	data, err := h.archives.get(ctx, r.ref.repository(), "", at.String(), func(ctx context.Context) ([]byte, error) {
		return h.download(ctx, at, r.ref, maxProof, "the provenance of chart "+r.Name+" "+r.Version)
	})
	if refusal.Reason(err) == v1alpha1.ReasonChartNotFound {
		return nil, noProvenance(r, "there is no "+at.Redacted())
	}
	return data, err
}

func noProvenance(r *Resolved, why string) error {
	return refusal.Becausef(v1alpha1.ReasonVerificationFailed,
		"chart %s %s has no provenance: %s; have it published with one (helm package --sign), or take chart.verify out of the spec", r.Name, r.Version, why)
}

// Signatures are only in OCI registries.
func (h *httpRegistry) Signatures(_ context.Context, r *Resolved) ([]Signature, error) {
	return nil, refusal.Becausef(v1alpha1.ReasonVerificationFailed,
		"chart %s %s has no cosign signature: those are only in OCI registries; use provider Provenance, or an oci URL", r.Name, r.Version)
}

// Provenance is a layer of the manifest.
func (o *ociRegistry) Provenance(ctx context.Context, r *Resolved) ([]byte, error) {
	if r.provenance.Digest == "" {
		return nil, noProvenance(r, "its manifest has no layer of media type "+mediaProvenance)
	}
	s, err := o.open(r.ref)
	if err != nil {
		return nil, err
	}
	defer s.close()
	return s.blob(ctx, r.provenance, maxProof)
}

// Signatures are under cosign's tag for the manifest, and in bundles that refer to it.
func (o *ociRegistry) Signatures(ctx context.Context, r *Resolved) ([]Signature, error) {
	ctx, cancel := context.WithTimeout(ctx, o.opts.Timeout)
	defer cancel()
	s, err := o.open(r.ref)
	if err != nil {
		return nil, err
	}
	defer s.close()
	found, err := s.cosigned(ctx, r.ManifestDigest)
	if err != nil {
		return nil, err
	}
	bundles, err := s.bundles(ctx, r.ManifestDigest, maxSignatures-len(found))
	if err != nil {
		return nil, err
	}
	if found = append(found, bundles...); len(found) == 0 {
		return nil, refusal.Becausef(v1alpha1.ReasonVerificationFailed,
			"chart %s %s is not signed: %s has no cosign signature of %s; sign it (cosign sign), or take chart.verify out of the spec", r.Name, r.Version, s, r.ManifestDigest)
	}
	return found, nil
}

// cosigned are the signatures of cosign's tag scheme.
func (s *session) cosigned(ctx context.Context, manifest string) ([]Signature, error) {
	data, _, err := s.readManifest(ctx, SignatureTag(manifest))
	if refusal.Reason(err) == v1alpha1.ReasonChartNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := s.decode(data, &m); err != nil {
		return nil, err
	}
	var found []Signature
	for _, l := range m.Layers {
		signature := l.Annotations[annotationSignature]
		if signature == "" || len(found) == maxSignatures {
			continue
		}
		payload, err := s.blob(ctx, l, maxProof)
		if err != nil {
			return nil, err
		}
		found = append(found, Signature{MediaType: l.MediaType, Payload: payload, Base64: signature})
	}
	return found, nil
}

// referrers of a manifest that may be bundles of sigstore, by the referrers API or,
// where a registry has none, its fallback tag.
func (s *session) referrers(ctx context.Context, manifest string, atMost int) ([]ocispec.Descriptor, error) {
	var refer []ocispec.Descriptor
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(manifest)}
	err := s.repository().Referrers(ctx, subject, "", func(page []ocispec.Descriptor) error {
		for _, d := range page {
			if maybeBundle(d.ArtifactType) && d.Digest.Validate() == nil && len(refer) < atMost {
				refer = append(refer, d)
			}
		}
		return nil
	})
	if err != nil && !unsupported(err) {
		return nil, s.refused(ctx, err, "what refers to "+manifest)
	}
	return refer, nil
}

// bundles of sigstore that refer to a manifest.
func (s *session) bundles(ctx context.Context, manifest string, atMost int) ([]Signature, error) {
	refer, err := s.referrers(ctx, manifest, atMost)
	if err != nil {
		return nil, err
	}
	var found []Signature
	for _, d := range refer {
		data, _, err := s.readManifest(ctx, d.Digest.String())
		if err != nil {
			return nil, err
		}
		var m ocispec.Manifest
		if err := s.decode(data, &m); err != nil {
			return nil, err
		}
		for _, l := range m.Layers {
			if !isBundle(l) || len(found) == atMost {
				continue
			}
			bundle, err := s.blob(ctx, l, maxProof)
			if err != nil {
				return nil, err
			}
			found = append(found, Signature{MediaType: l.MediaType, Bundle: bundle})
		}
	}
	return found, nil
}

func isBundle(layer ocispec.Descriptor) bool { return strings.HasPrefix(layer.MediaType, mediaBundle) }

// maybeBundle tells whether a referrer may be a bundle: older registries say the type
// of its configuration instead, which is empty, or nothing.
func maybeBundle(artifactType string) bool {
	return strings.HasPrefix(artifactType, mediaBundle) || slices.Contains([]string{"", ocispec.MediaTypeEmptyJSON, ocispec.MediaTypeImageConfig}, artifactType)
}

// unsupported tells whether a registry is older than the referrers API, and says so in
// another way than the specification asks for.
func unsupported(err error) bool {
	answer, ok := errors.AsType[*errcode.ErrorResponse](err)
	if !ok {
		return false
	}
	switch answer.StatusCode {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return false
}
