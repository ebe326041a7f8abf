package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/internal/flight"
	"orkestra.dev/services/stager/internal/lru"
	"orkestra.dev/services/stager/refusal"
)

// httpRegistry is the Registry of repositories with an index.yaml.
type httpRegistry struct {
	*network
	indexes  *lru.Cache[*snapshot] // by repository
	looks    flight.Group[*snapshot]
	archives *store
}

// Resolve finds the chart in the repository's index.
func (h *httpRegistry) Resolve(ctx context.Context, ref Ref) (*Resolved, error) {
	base, err := webURL(ref.URL)
	if err != nil {
		return nil, err
	}
	now := h.opts.Now()
	after := now.Add(-h.opts.IndexTTL)
	if ref.Since.After(after) {
		after = ref.Since
	}
	if after.After(now) { // whoever asked has another clock
		after = now
	}
	x, err := h.index(ctx, ref, after)
	if err != nil {
		return nil, err
	}
	v, ok := x.find(ref)
	if !ok && x.asked.Before(now) {
		if x, err = h.index(ctx, ref, now); err != nil {
			return nil, err
		}
		v, ok = x.find(ref)
	}
	if !ok {
		return nil, notFound(x.index, ref, base)
	}
	return resolved(v, ref, base)
}

// resolved is what a version of the index at base comes to.
func resolved(v version, ref Ref, base *url.URL) (*Resolved, error) {
	if v.URL == "" {
		return nil, refusal.Becausef(v1alpha1.ReasonChartNotFound, "the index of %s has no URL for chart %s %s", base.Redacted(), v.Name, v.Version)
	}
	at, err := reference(ref.URL, v.URL)
	if err != nil {
		return nil, refusal.Becausef(v1alpha1.ReasonChartNotFound, "the index of %s has a URL for chart %s %s that is none", base.Redacted(), v.Name, v.Version)
	}
	r := &Resolved{Name: v.Name, Version: v.Version, URL: at, Digest: digestOf(v), ref: ref}
	if ref.Digest == "" {
		return r, nil
	}
	if r.Digest != "" && r.Digest != ref.Digest {
		return nil, refusal.Becausef(v1alpha1.ReasonDigestMismatch,
			"chart %s %s of %s has digest %s as the index says, chart.digest asks for %s", r.Name, r.Version, base.Redacted(), r.Digest, ref.Digest)
	}
	r.Digest = ref.Digest
	return r, nil
}

// Fetch gets the archive, out of the cache where its digest is known and it is there.
func (h *httpRegistry) Fetch(ctx context.Context, r *Resolved) ([]byte, error) {
	at, err := webURL(r.URL)
	if err != nil {
		return nil, err
	}
	return h.archives.get(ctx, r.ref.repository(), r.Digest, at.String(), func(ctx context.Context) ([]byte, error) {
		data, err := h.download(ctx, at, r.ref, h.opts.MaxArchive, "chart "+r.Name+" "+r.Version)
		if err != nil {
			return nil, err
		}
		if got := archive.Digest(data); r.Digest != "" && got != r.Digest {
			by, change := "the index of its repository promises", "the archive was changed, or the index was not updated"
			if r.ref.Digest != "" {
				by, change = "chart.digest asks for", "the archive was changed, or another one is meant"
			}
			return nil, refusal.Becausef(v1alpha1.ReasonDigestMismatch, "chart %s %s at %s has digest %s, %s %s: %s",
				r.Name, r.Version, at.Redacted(), got, by, r.Digest, change)
		}
		return data, nil
	})
}

// download what is at a URL, as it is: an archive is gzip in its own right.
func (h *httpRegistry) download(ctx context.Context, at *url.URL, ref Ref, limit int64, what string) (data []byte, err error) {
	err = h.get(ctx, at, ref, http.Header{"Accept-Encoding": {"identity"}}, func(resp *http.Response) error {
		switch {
		case resp.StatusCode != http.StatusOK:
			return status(resp.StatusCode, at, what)
		case resp.ContentLength > limit:
			return tooLarge(at.Redacted(), limit)
		}
		data, err = io.ReadAll(&bounded{r: resp.Body, left: limit})
		if errors.Is(err, errTooLarge) {
			return tooLarge(at.Redacted(), limit)
		}
		if err != nil {
			return unreachable(ctx, at, err)
		}
		return nil
	})
	return data, err
}

// get makes one request, and has the response read. Credentials go to the host of the
// ref's repository only.
func (h *httpRegistry) get(ctx context.Context, at *url.URL, ref Ref, header http.Header, read func(*http.Response) error) (err error) {
	home, err := webURL(ref.URL)
	if err != nil {
		return err
	}
	l, err := ref.Credentials.login(home.Host, home.Path)
	if err != nil {
		return err
	}
	defer func() { err = l.discreet(err) }()
	if l.refresh != "" {
		return refusal.Becausef(v1alpha1.ReasonAuthenticationFailed,
			"the Secret in authSecretRef has an identity token for %s: that is for OCI registries; give username and password", home.Host)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return refusal.Becausef(v1alpha1.ReasonRepositoryRefused, "%s is not a URL that can be fetched", at.Redacted())
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", h.opts.UserAgent)
	switch {
	case !sameHost(at, home):
	case l.token != "":
		req.Header.Set("Authorization", "Bearer "+l.token)
	case l.username != "":
		req.SetBasicAuth(l.username, l.password)
	}
	c := h.client(home, l, false)
	defer c.close()
	resp, err := c.Do(req)
	if err != nil {
		return unreachable(ctx, at, err)
	}
	defer resp.Body.Close()
	return read(resp)
}

// webURL checks what the URL of a repository or of an archive may be.
func webURL(raw string) (*url.URL, error) {
	u, err := parseURL(raw)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, refusal.Becausef(v1alpha1.ReasonRepositoryRefused, "%s is not an http, https or oci URL", u.Redacted())
	}
	return u, nil
}

func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The error of url.Parse quotes the URL, and what does not parse may hold a password.
		return nil, refusal.Because(v1alpha1.ReasonRepositoryRefused, errors.New("the URL of the repository does not parse"))
	}
	return u, nil
}
