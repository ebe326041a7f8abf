package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
)

// maxIndexes is how many repositories are remembered.
const maxIndexes = 16

// indexes remembers the index of each repository, and lets one request at a time
// ask for it.
type indexes struct {
	mu sync.Mutex
	by map[string]*indexEntry
}

type indexEntry struct {
	asking chan struct{} // holds one token: who has it may ask
	used   time.Time

	parsed       *index
	asked        time.Time
	etag         string
	lastModified string
}

func newIndexes() *indexes { return &indexes{by: map[string]*indexEntry{}} }

func (x *indexes) entry(ref Ref, now time.Time) *indexEntry {
	key := ref.repository()
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.by[key]
	if e == nil {
		if len(x.by) >= maxIndexes {
			oldest := ""
			for k, e := range x.by {
				if oldest == "" || e.used.Before(x.by[oldest].used) {
					oldest = k
				}
			}
			delete(x.by, oldest)
		}
		e = &indexEntry{asking: make(chan struct{}, 1)}
		x.by[key] = e
	}
	e.used = now
	return e
}

// index of the ref's repository. It is fresh where it was asked for, or asked
// whether it is still the same, just now.
func (h *HTTP) index(ctx context.Context, ref Ref, again bool) (x *index, fresh bool, err error) {
	now := h.opts.Now()
	e := h.indexes.entry(ref, now)
	select {
	case e.asking <- struct{}{}:
		defer func() { <-e.asking }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	// While we waited, somebody else may have asked: that is as fresh.
	if age := now.Sub(e.asked); e.parsed != nil && (age < 0 || !again && age < h.opts.IndexTTL) {
		return e.parsed, age < 0, nil
	}
	raw, err := reference(ref.URL, "index.yaml")
	if err != nil {
		return nil, false, refusal.Because(v1alpha1.ReasonRepositoryRefused, errors.New("the URL of the repository does not parse"))
	}
	at, err := repositoryURL(raw)
	if err != nil {
		return nil, false, err
	}
	header := http.Header{}
	if e.parsed != nil && e.etag != "" {
		header.Set("If-None-Match", e.etag)
	}
	if e.parsed != nil && e.lastModified != "" {
		header.Set("If-Modified-Since", e.lastModified)
	}
	resp, err := h.get(ctx, at, ref, h.opts.MaxIndex, header)
	if err != nil {
		return nil, false, err
	}
	switch resp.status {
	case http.StatusNotModified:
		e.asked = h.opts.Now()
		return e.parsed, true, nil
	case http.StatusOK:
	default:
		return nil, false, status(resp.status, at, "the repository's index")
	}
	parsed, err := parseIndex(resp.body)
	if err != nil {
		return nil, false, refusal.Becausef(v1alpha1.ReasonRepositoryUnreachable, "reading the index at %s: %w", at.Redacted(), err)
	}
	e.parsed, e.asked = parsed, h.opts.Now()
	e.etag, e.lastModified = resp.header.Get("ETag"), resp.header.Get("Last-Modified")
	return parsed, true, nil
}

// notFound says what there is instead.
func notFound(x *index, ref Ref, base *url.URL) error {
	versions := x.charts[ref.Name]
	if len(versions) == 0 {
		return refusal.Becausef(v1alpha1.ReasonChartNotFound, "the repository %s has no chart %q%s; check chart.name and chart.url",
			base.Redacted(), ref.Name, some("charts", slices.Sorted(maps.Keys(x.charts))))
	}
	var has []string
	for _, v := range versions { // newest first
		has = append(has, v.Version)
	}
	return refusal.Becausef(v1alpha1.ReasonChartNotFound, "the repository %s has no version %q of chart %q%s; check chart.version",
		base.Redacted(), ref.Version, ref.Name, some("versions", has))
}

// some of a list, for a message.
func some(what string, all []string) string {
	const enough = 5
	switch {
	case len(all) == 0:
		return "; it has none"
	case len(all) <= enough:
		return "; its " + what + " are " + strings.Join(all, ", ")
	}
	return fmt.Sprintf("; of its %d %s the first are %s", len(all), what, strings.Join(all[:enough], ", "))
}
