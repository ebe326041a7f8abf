package registry

import (
	"context"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"

	"orkestra.dev/services/stager/internal/lru"
)

// New makes a Registry of all schemes: http, https and oci.
func New(o Options) Registry {
	o.setDefaults()
	n := newNetwork(o)
	archives := &store{timeout: o.Timeout, kept: lru.New[[]byte](o.CacheBytes)}
	return &schemes{
		http: &httpRegistry{network: n, indexes: lru.New[*snapshot](o.IndexCacheBytes), archives: archives},
		oci:  &ociRegistry{network: n, tokens: lru.New[auth.Cache](maxTokens), blobs: archives},
	}
}

// schemes is the Registry that goes by the scheme of a URL.
type schemes struct {
	http *httpRegistry
	oci  *ociRegistry
}

func (s *schemes) of(url string) Registry {
	if isOCI(url) {
		return s.oci
	}
	return s.http
}

func isOCI(url string) bool { return strings.HasPrefix(url, "oci://") }

// Resolve finds a chart. An index may say that the archive is in an OCI registry.
func (s *schemes) Resolve(ctx context.Context, ref Ref) (*Resolved, error) {
	r, err := s.of(ref.URL).Resolve(ctx, ref)
	if err != nil || isOCI(ref.URL) || !isOCI(r.URL) {
		return r, err
	}
	return s.oci.promised(ctx, r)
}

// Fetch gets an archive.
func (s *schemes) Fetch(ctx context.Context, r *Resolved) ([]byte, error) {
	return s.of(r.URL).Fetch(ctx, r)
}

// Provenance gets the provenance of a chart.
func (s *schemes) Provenance(ctx context.Context, r *Resolved) ([]byte, error) {
	return s.of(r.URL).Provenance(ctx, r)
}

// Signatures gets the signatures of a chart.
func (s *schemes) Signatures(ctx context.Context, r *Resolved) ([]Signature, error) {
	return s.of(r.URL).Signatures(ctx, r)
}
