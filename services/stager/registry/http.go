package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/internal/lru"
	"orkestra.dev/services/stager/refusal"
)

// Options of New. All may be zero.
type Options struct {
	// AllowPrivate lets repositories be on loopback, link-local and private
	// addresses. A proxy of the environment is only used then, since who dials
	// through a proxy does not see where it ends.
	AllowPrivate bool
	// IndexTTL is how long an index is good without asking whether it changed.
	// Default 10 s. It never says no: before a chart is not found, it is asked for again.
	IndexTTL time.Duration
	// Timeout of one request, from dialling to the last byte. Default 1 min.
	Timeout time.Duration
	// MaxIndex and MaxArchive bound what is fetched, in bytes. Defaults are those of
	// source-controller, 50 MiB and 10 MiB: it would not take what is larger.
	MaxIndex, MaxArchive int64
	// CacheBytes bounds the archives that are kept in memory, by repository and
	// digest. Default 64 MiB.
	CacheBytes int64
	// UserAgent; default orkestra.
	UserAgent string
	// Now is the clock; default time.Now.
	Now func() time.Time
}

func (o *Options) setDefaults() {
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	def(&o.MaxIndex, 50<<20)
	def(&o.MaxArchive, 10<<20)
	def(&o.CacheBytes, 64<<20)
	def((*int64)(&o.IndexTTL), int64(10*time.Second))
	def((*int64)(&o.Timeout), int64(time.Minute))
	if o.UserAgent == "" {
		o.UserAgent = "orkestra"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// HTTP is the Registry of repositories with an index.yaml.
type HTTP struct {
	opts     Options
	plain    *http.Transport
	indexes  *indexes
	archives *lru.Cache[[]byte]
}

// New makes a Registry.
func New(o Options) *HTTP {
	o.setDefaults()
	h := &HTTP{opts: o, archives: lru.New[[]byte](o.CacheBytes), indexes: newIndexes()}
	h.plain = h.transport(nil)
	return h
}

func (h *HTTP) transport(config *tls.Config) *http.Transport {
	t := &http.Transport{
		DialContext:           dialer(h.opts.AllowPrivate).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   8,
		ForceAttemptHTTP2:     true,
	}
	if h.opts.AllowPrivate {
		t.Proxy = http.ProxyFromEnvironment
	}
	return t
}

// Resolve finds the chart in the repository's index.
func (h *HTTP) Resolve(ctx context.Context, ref Ref) (*Resolved, error) {
	base, err := repositoryURL(ref.URL)
	if err != nil {
		return nil, err
	}
	x, fresh, err := h.index(ctx, ref, false)
	if err != nil {
		return nil, err
	}
	cv, ok := x.find(ref.Name, ref.Version)
	if !ok && !fresh {
		if x, _, err = h.index(ctx, ref, true); err != nil {
			return nil, err
		}
		cv, ok = x.find(ref.Name, ref.Version)
	}
	if !ok {
		return nil, notFound(x, ref, base)
	}
	if len(cv.URLs) == 0 {
		return nil, refusal.Becausef(v1alpha1.ReasonChartNotFound, "the index of %s has no URL for chart %s %s", base.Redacted(), cv.Name, cv.Version)
	}
	at, err := reference(ref.URL, cv.URLs[0])
	if err != nil {
		return nil, refusal.Becausef(v1alpha1.ReasonChartNotFound, "the index of %s has a URL for chart %s %s that is none", base.Redacted(), cv.Name, cv.Version)
	}
	r := &Resolved{Name: cv.Name, Version: cv.Version, URL: at, ref: ref}
	if cv.Digest != "" {
		r.Digest = "sha256:" + strings.ToLower(strings.TrimPrefix(cv.Digest, "sha256:"))
	}
	return r, nil
}

// Fetch gets the archive, out of the cache where the index promises a digest that
// is there.
func (h *HTTP) Fetch(ctx context.Context, r *Resolved) ([]byte, error) {
	key := r.ref.repository() + " " + r.Digest
	if r.Digest != "" {
		if data, ok := h.archives.Get(key); ok {
			return data, nil
		}
	}
	at, err := repositoryURL(r.URL)
	if err != nil {
		return nil, err
	}
	resp, err := h.get(ctx, at, r.ref, h.opts.MaxArchive, nil)
	if err != nil {
		return nil, err
	}
	if resp.status != http.StatusOK {
		return nil, status(resp.status, at, "chart "+r.Name+" "+r.Version)
	}
	got := archive.Digest(resp.body)
	if r.Digest != "" && got != r.Digest {
		return nil, refusal.Becausef(v1alpha1.ReasonDigestMismatch,
			"chart %s %s at %s has digest %s, the index of its repository promises %s: the archive was changed, or the index was not updated",
			r.Name, r.Version, at.Redacted(), got, r.Digest)
	}
	if r.Digest != "" {
		h.archives.Put(key, resp.body, int64(len(resp.body)))
	}
	return resp.body, nil
}

// response is what is left of a response when its connection is done with.
type response struct {
	status int
	header http.Header
	body   []byte
}

// get makes one request. Credentials go to the host of the ref's repository only.
func (h *HTTP) get(ctx context.Context, at *url.URL, ref Ref, limit int64, header http.Header) (*response, error) {
	ctx, cancel := context.WithTimeout(ctx, h.opts.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, refusal.Becausef(v1alpha1.ReasonRepositoryRefused, "%s is not a URL that can be fetched", at.Redacted())
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", h.opts.UserAgent)

	home, err := repositoryURL(ref.URL)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: h.plain, CheckRedirect: redirects(home)}
	if c := ref.Credentials; c != nil && sameHost(at, home) {
		if c.username != "" {
			req.SetBasicAuth(c.username, c.password)
		}
		if c.tls != nil {
			t := h.transport(c.tls.Clone())
			defer t.CloseIdleConnections()
			client.Transport = t
			client.CheckRedirect = stayAt(home)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, unreachable(ctx, at, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, unreachable(ctx, at, err)
	}
	if int64(len(body)) > limit {
		return nil, refusal.Becausef(v1alpha1.ReasonRepositoryRefused, "%s is larger than %d bytes", at.Redacted(), limit)
	}
	return &response{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

var errRedirect = errors.New("redirect refused")

// redirects follows up to five, and takes the credentials off where the host
// changes or encryption ends.
func redirects(home *url.URL) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if len(via) > 5 {
			return fmt.Errorf("%w: more than five", errRedirect)
		}
		if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
			return fmt.Errorf("%w: it goes to a URL of scheme %q", errRedirect, req.URL.Scheme)
		}
		if !sameHost(req.URL, home) {
			req.Header.Del("Authorization")
			// Go takes a redirect's referrer from the URL, which may have a token in it.
			req.Header.Del("Referer")
		}
		return nil
	}
}

// stayAt follows redirects on one host: elsewhere a client certificate, or trust
// in a private CA, has no business.
func stayAt(home *url.URL) func(*http.Request, []*http.Request) error {
	follow := redirects(home)
	return func(req *http.Request, via []*http.Request) error {
		if !sameHost(req.URL, home) {
			return fmt.Errorf("%w: it goes to host %s, and the credentials hold certificates for %s only", errRedirect, req.URL.Host, home.Host)
		}
		return follow(req, via)
	}
}

func sameHost(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }

// repositoryURL checks what a URL may be before anything is done with it.
func repositoryURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The error of url.Parse quotes the URL, and what does not parse may hold a password.
		return nil, refusal.Because(v1alpha1.ReasonRepositoryRefused, errors.New("the URL of the repository does not parse"))
	}
	switch {
	case u.Scheme == "oci":
		return nil, refusal.Becausef(v1alpha1.ReasonRepositoryRefused,
			"%s: OCI registries are not supported yet; use a repository with an index.yaml, at an http or https URL", u.Redacted())
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, refusal.Becausef(v1alpha1.ReasonRepositoryRefused, "%s is not an http or https URL", u.Redacted())
	}
	return u, nil
}

// unreachable sorts out why there is no response.
func unreachable(ctx context.Context, at *url.URL, err error) error {
	if forbidden, ok := errors.AsType[*refusedAddress](err); ok {
		return refusal.Becausef(v1alpha1.ReasonRepositoryRefused, "%s: %w", at.Redacted(), forbidden)
	}
	if errors.Is(err, errRedirect) {
		return refusal.Becausef(v1alpha1.ReasonRepositoryRefused, "%s: %w", at.Redacted(), cause(err))
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Canceled // we are told to stop; the repository is not to blame
	}
	hint := ""
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		hint = "; the key ca.crt of the Secret in authSecretRef makes a private CA trusted"
	}
	return refusal.Becausef(v1alpha1.ReasonRepositoryUnreachable, "fetching %s: %w%s", at.Redacted(), cause(err), hint)
}

// cause of an HTTP client's error, without the URL that it repeats.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// status sorts out a response that is no success.
func status(code int, at *url.URL, what string) error {
	reason, hint := v1alpha1.ReasonRepositoryUnreachable, ""
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		reason, hint = v1alpha1.ReasonAuthenticationFailed, "; check the Secret in authSecretRef"
	case http.StatusNotFound, http.StatusGone:
		reason, hint = v1alpha1.ReasonChartNotFound, "; check chart.url"
	}
	return refusal.Becausef(reason, "fetching %s from %s: the server answered %d %s%s", what, at.Redacted(), code, http.StatusText(code), hint)
}
