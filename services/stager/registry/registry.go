// Package registry finds charts in Helm repositories and fetches them, by index.yaml
// over http and https, and by tag or digest from OCI registries. What it is told to
// reach may be anybody's idea, so it looks at each address before it connects, and
// bounds size and time.
package registry

import (
	"context"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"orkestra.dev/api/v1alpha1"
)

// Registry finds and fetches charts. Its errors are refusals, but for a context's own.
type Registry interface {
	// Resolve finds the version of a chart, exact, that a Ref asks for.
	Resolve(ctx context.Context, ref Ref) (*Resolved, error)
	// Fetch gets the archive of what Resolve found. It may be shared with others, and is
	// not to be changed.
	Fetch(ctx context.Context, r *Resolved) ([]byte, error)
	// Provenance gets Helm's signed provenance of what Resolve found, at most 1 MiB.
	// Where there is none it is refused (VerificationFailed).
	Provenance(ctx context.Context, r *Resolved) ([]byte, error)
	// Signatures gets the signatures that are in the OCI registry beside what Resolve
	// found. They are as hostile as all else from there: nothing is verified here. Where
	// there are none it is refused (VerificationFailed).
	Signatures(ctx context.Context, r *Resolved) ([]Signature, error)
	// Original gets all that an OCI registry has of what Resolve found and of its
	// signatures, to be moved to another; at most 16 MiB besides the archive. Over http
	// and https there is none, and it is refused (VerificationFailed).
	Original(ctx context.Context, r *Resolved) (*Original, error)
}

// Ref is a chart that is wanted.
type Ref struct {
	// URL of the repository: http, https, or oci, where the chart is at <URL>/<Name>.
	URL string
	// Name of the chart in it.
	Name string
	// Version, exact or a range as Helm reads it; empty is "*".
	Version string
	// Digest that pins the chart, sha256:<hex>: that of the archive or, in an OCI
	// registry, of the manifest or of the archive. Empty where anything goes.
	Digest string
	// Credentials for the repository; nil for none.
	Credentials *Credentials
	// Since is when the chart was asked for: what was read of a repository before is not
	// good enough then. The zero time leaves that to Options.IndexTTL.
	Since time.Time
}

// repository is the key under which what was read there is remembered. Credentials
// are part of it: who may not read a repository does not get what another has read.
func (r Ref) repository() string {
	key := r.URL
	if r.Credentials != nil {
		key += " " + r.Credentials.id
	}
	return key
}

// RefOf is the chart that an application asks for, without credentials.
func RefOf(app *v1alpha1.Application) Ref {
	c := app.Spec.Chart
	return Ref{URL: c.URL, Name: c.Name, Version: c.Version, Digest: c.Digest}
}

// Resolved is a chart that was found.
type Resolved struct {
	// Name and Version as the index, or the chart's own metadata in an OCI registry,
	// has them; the version is exact.
	Name, Version string
	// URL of the archive, absolute; in an OCI registry oci://<host>/<path>@<digest> of
	// the manifest.
	URL string
	// Digest that the archive must have, sha256:<hex>: the one that the index or the
	// manifest promises, or the pin. Empty where nothing is promised.
	Digest string
	// ManifestDigest is that of the OCI manifest (or index) which the tag or the pin
	// names, sha256:<hex>. Empty over http and https.
	ManifestDigest string

	ref Ref
	// archive and provenance are layers of the manifest.
	archive, provenance ocispec.Descriptor
}

// Signature is one that was found beside a chart in an OCI registry: either Payload and
// Base64 are set, or Bundle is.
type Signature struct {
	// MediaType of Payload or of Bundle.
	MediaType string
	// Payload that was signed, of cosign's tag scheme (sha256-<hex>.sig).
	Payload []byte
	// Base64 is the signature of Payload, cosign's annotation.
	Base64 string
	// Bundle of sigstore in JSON, found as a referrer of the manifest.
	Bundle []byte
}

// Fetched is the outcome for one Ref.
type Fetched struct {
	*Resolved
	Archive []byte
	Err     error
}

// FetchAll resolves and fetches refs, at most parallel at a time. The results are
// in the order of refs.
func FetchAll(ctx context.Context, r Registry, refs []Ref, parallel int) []Fetched {
	out := make([]Fetched, len(refs))
	slots := make(chan struct{}, max(parallel, 1))
	var wg sync.WaitGroup
	for i, ref := range refs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if out[i].Resolved, out[i].Err = r.Resolve(ctx, ref); out[i].Err == nil {
				out[i].Archive, out[i].Err = r.Fetch(ctx, out[i].Resolved)
			}
		})
	}
	wg.Wait()
	return out
}
