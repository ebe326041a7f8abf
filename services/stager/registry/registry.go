// Package registry finds charts in Helm repositories and fetches them: by
// index.yaml over http and https. What it is told to reach may be anybody's idea, so
// it looks at each address before it connects, and bounds size and time.
package registry

import (
	"context"
	"sync"

	"orkestra.dev/api/v1alpha1"
)

// Registry finds and fetches charts.
type Registry interface {
	// Resolve finds the version of a chart, exact, that a Ref asks for.
	Resolve(ctx context.Context, ref Ref) (*Resolved, error)
	// Fetch gets the archive of what Resolve found.
	Fetch(ctx context.Context, r *Resolved) ([]byte, error)
}

// Ref is a chart that is wanted.
type Ref struct {
	// URL of the repository.
	URL string
	// Name of the chart in it.
	Name string
	// Version, exact or a range as Helm reads it; empty is "*".
	Version string
	// Credentials for the repository; nil for none.
	Credentials *Credentials
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
	return Ref{URL: c.URL, Name: c.Name, Version: c.Version}
}

// Resolved is a chart that was found.
type Resolved struct {
	// Name and Version as the index has them; the version is exact.
	Name, Version string
	// URL of the archive, absolute.
	URL string
	// Digest that the index promises, sha256:<hex>; empty where it promises none.
	Digest string

	ref Ref
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
