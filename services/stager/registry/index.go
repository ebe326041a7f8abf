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
	"time"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
)

// snapshot is the index of a repository as it was when it was last asked for.
type snapshot struct {
	*index
	asked              time.Time // when the request was begun
	etag, lastModified string
}

// index of the ref's repository, as it was after a point of time. Who wants it while it
// is being asked for waits for that; and it is only downloaded where it has changed.
func (h *httpRegistry) index(ctx context.Context, ref Ref, after time.Time) (*snapshot, error) {
	recent := func() (*snapshot, bool) {
		known, ok := h.indexes.Get(ref.repository())
		return known, ok && !known.asked.Before(after)
	}
	for {
		if known, ok := recent(); ok {
			return known, nil
		}
		got, err := h.looks.Do(ctx, ref.repository(), h.opts.Timeout, func(ctx context.Context) (*snapshot, error) {
			// Another's look may have ended since we asked.
			if known, ok := recent(); ok {
				return known, nil
			}
			return h.look(ctx, ref)
		})
		// Who was asking already when we came may have been told before that.
		if err != nil || !got.asked.Before(after) {
			return got, err
		}
	}
}

// look asks the server.
func (h *httpRegistry) look(ctx context.Context, ref Ref) (*snapshot, error) {
	at, err := indexURL(ref.URL)
	if err != nil {
		return nil, err
	}
	asked := h.opts.Now()
	header := http.Header{}
	known, ok := h.indexes.Get(ref.repository())
	if ok && known.etag != "" {
		header.Set("If-None-Match", known.etag)
	}
	if ok && known.lastModified != "" {
		header.Set("If-Modified-Since", known.lastModified)
	}
	var next *snapshot
	err = h.get(ctx, at, ref, header, func(resp *http.Response) error {
		switch {
		case resp.StatusCode == http.StatusNotModified && ok:
			next = &snapshot{known.index, asked, known.etag, known.lastModified}
			return nil
		case resp.StatusCode != http.StatusOK:
			return status(resp.StatusCode, at, "the repository's index")
		}
		x, err := readIndex(resp.Body, h.opts.MaxIndex, h.opts.IndexCacheBytes)
		if err != nil {
			return h.unread(ctx, at, err)
		}
		next = &snapshot{x, asked, resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")}
		return nil
	})
	if err != nil {
		return nil, err
	}
	h.indexes.Put(ref.repository(), next, next.weight+int64(len(ref.URL))+1024)
	return next, nil
}

// unread sorts out why an index was not read.
func (h *httpRegistry) unread(ctx context.Context, at *url.URL, err error) error {
	switch {
	case errors.Is(err, errTooLarge):
		return tooLarge(at.Redacted(), h.opts.MaxIndex)
	case errors.Is(err, errTooHeavy):
		return refusal.Becausef(v1alpha1.ReasonRepositoryRefused, "the index at %s: %w", at.Redacted(), err)
	case ctx.Err() != nil:
		return unreachable(ctx, at, err)
	}
	return refusal.Becausef(v1alpha1.ReasonRepositoryUnreachable, "reading the index at %s: %w", at.Redacted(), err)
}

func indexURL(repository string) (*url.URL, error) {
	raw, err := reference(repository, "index.yaml")
	if err != nil {
		return nil, refusal.Because(v1alpha1.ReasonRepositoryRefused, errors.New("the URL of the repository does not parse"))
	}
	return webURL(raw)
}

// find the version that is wanted: with a pin, of those that the constraint allows,
// the one that the index says has that digest, if it says so of any.
func (x *index) find(ref Ref) (version, bool) {
	all := x.charts[ref.Name]
	if ref.Digest != "" {
		pinned := slices.Collect(func(yield func(version) bool) {
			for _, v := range all {
				if digestOf(v) == ref.Digest && !yield(v) {
					return
				}
			}
		})
		if v, ok := pick(pinned, ref.Version); ok {
			return v, true
		}
		if len(pinned) > 0 && anything(ref.Version) {
			return pinned[0], true // also where it is a pre-release
		}
	}
	return pick(all, ref.Version)
}

// digestOf a version, sha256:<hex>; empty where the index promises none.
func digestOf(v version) string {
	if v.Digest == "" {
		return ""
	}
	return "sha256:" + strings.ToLower(strings.TrimPrefix(v.Digest, "sha256:"))
}

// notFound says what there is instead.
func notFound(x *index, ref Ref, base *url.URL) error {
	versions := x.charts[ref.Name]
	if len(versions) == 0 {
		return refusal.Becausef(v1alpha1.ReasonChartNotFound, "the repository %s has no chart %q%s; check chart.name and chart.url",
			base.Redacted(), ref.Name, some("charts", slices.Sorted(maps.Keys(x.charts))))
	}
	return noVersion("the repository "+base.Redacted(), versions, ref)
}

// noVersion says that there is none that is asked for; versions are newest first.
func noVersion(where string, versions []version, ref Ref) error {
	var has []string
	for _, v := range versions {
		has = append(has, v.Version)
	}
	return refusal.Becausef(v1alpha1.ReasonChartNotFound, "%s has no version %q of chart %q%s; check chart.version",
		where, ref.Version, ref.Name, some("versions", has))
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
