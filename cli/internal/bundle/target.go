package bundle

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/chart"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
)

// Login is what is shown to the repository that a bundle is loaded to.
type Login struct {
	Username, Password string
	// Token is sent in the place of both.
	Token string
	// TLS has a client certificate, and a CA to trust; nil for neither.
	TLS *tls.Config
	// Credentials are the same, for the package that fetches charts; nil for none.
	Credentials *registry.Credentials
}

// Target says where a bundle is loaded to.
type Target struct {
	// URL of a Helm repository with ChartMuseum's API (http, https), or below which an
	// OCI registry has charts (oci).
	URL string
	// ContextPath below which ChartMuseum serves, where it was given one.
	ContextPath string
	// PlainHTTP speaks to an OCI registry without TLS. One on loopback is taken for one
	// where the login has no certificates.
	PlainHTTP bool
	Login     Login

	http *http.Client
}

// requestTimeout bounds one upload.
const requestTimeout = 2 * time.Minute

// pusher adds charts to a repository.
type pusher interface {
	// Push a chart, with its provenance where there is one. A chart that is there
	// already is errThere.
	Push(ctx context.Context, meta *chart.Metadata, archive, provenance []byte) error
	// PushProvenance of a chart that is there, where it has none or the same.
	PushProvenance(ctx context.Context, meta *chart.Metadata, archive, provenance []byte) error
}

var errThere = errors.New("it holds another chart under this name and version, that its index does not show")

func (t *Target) pusher(ctx context.Context) (pusher, *url.URL, error) {
	u, err := url.Parse(t.URL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, nil, errors.New("it has to be a URL such as https://charts.example.com/team or oci://registry.example.com/charts, without user, query and fragment")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	t.http = t.client(ctx, u.Host)
	switch u.Scheme {
	case "http", "https":
		return newMuseum(u, t), u, nil
	case "oci":
		return &ociTarget{at: u, Target: t}, u, nil
	default:
		return nil, nil, fmt.Errorf("%s: want an http, https or oci URL", u)
	}
}

// plain tells whether an OCI registry is spoken to without TLS.
func (t *Target) plain(host string) bool {
	name := (&url.URL{Host: host}).Hostname()
	addr, err := netip.ParseAddr(name)
	return t.PlainHTTP || t.Login.TLS == nil && (name == "localhost" || err == nil && addr.Unmap().IsLoopback())
}

// client that shows its certificate to none but the target. A CA that is trusted for it
// may have signed for its token server too.
func (t *Target) client(ctx context.Context, home string) *http.Client {
	own, other := &http.Transport{Proxy: http.ProxyFromEnvironment}, &http.Transport{Proxy: http.ProxyFromEnvironment}
	if t.Login.TLS != nil {
		own.TLSClientConfig, other.TLSClientConfig = t.Login.TLS.Clone(), t.Login.TLS.Clone()
		other.TLSClientConfig.Certificates = nil
	}
	return &http.Client{
		Timeout: requestTimeout,
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == home {
				return own.RoundTrip(r.WithContext(ctx))
			}
			return other.RoundTrip(r.WithContext(ctx))
		}),
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			if r.URL.Host != home {
				return fmt.Errorf("it redirects to %s: load to that URL if it is to be trusted", r.URL.Host)
			}
			return nil
		},
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// has tells which digest the repository promises for a chart; it is empty where the
// chart is not there. It asks as the stager will.
func (t *Target) has(ctx context.Context, from registry.Registry, name, version string) (*registry.Resolved, error) {
	found, err := from.Resolve(ctx, registry.Ref{URL: t.URL, Name: name, Version: version, Credentials: t.Login.Credentials})
	if refusal.Reason(err) == v1alpha1.ReasonChartNotFound {
		return nil, nil
	}
	if err != nil || found.Version != version {
		return nil, err
	}
	return found, nil
}
