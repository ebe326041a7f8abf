package registry

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// network is how we reach others: what policy lets us speak to, and whom credentials
// are shown to.
type network struct {
	opts Options
	// plain connections, without any credentials.
	plain *http.Transport
}

func newNetwork(o Options) *network {
	n := &network{opts: o}
	n.plain = n.transport(nil)
	return n
}

func (n *network) transport(config *tls.Config) *http.Transport {
	t := &http.Transport{
		DialContext:           dialer(n.opts.AllowPrivate).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   8,
		ForceAttemptHTTP2:     true,
	}
	if n.opts.AllowPrivate {
		t.Proxy = http.ProxyFromEnvironment
	}
	return t
}

// allowed tells whether a host, with or without a port, may be spoken to.
func (n *network) allowed(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" {
		return forbid("it is a URL of scheme %q", u.Scheme)
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if host == "" {
		return forbid("it is a URL without a host")
	}
	if len(n.opts.AllowHosts) == 0 || slices.ContainsFunc(n.opts.AllowHosts, func(pattern string) bool {
		pattern = strings.ToLower(pattern)
		if below, ok := strings.CutPrefix(pattern, "*"); ok {
			return strings.HasPrefix(below, ".") && strings.HasSuffix(host, below) && host != below
		}
		return host == pattern
	}) {
		return nil
	}
	return forbid("host %q is not one of those that --allow-hosts names", host)
}

// plainHTTP tells whether an OCI registry is spoken to without TLS.
func (n *network) plainHTTP(host string, l login) bool {
	u := url.URL{Host: host}
	if slices.Contains(n.opts.PlainHTTP, host) || slices.Contains(n.opts.PlainHTTP, u.Hostname()) {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	loopback := err == nil && addr.Unmap().IsLoopback() || u.Hostname() == "localhost"
	return loopback && n.opts.AllowPrivate && l.tls == nil
}

// client speaks for one repository. It has to be closed.
func (n *network) client(home *url.URL, l login, oci bool) *client {
	g := &guard{network: n, home: home, login: l, oci: oci, own: n.plain, realm: n.plain}
	if l.tls != nil {
		g.own = n.transport(l.tls.Clone())
		// The CA that the Secret trusts may have signed for the token server too, but a
		// client certificate has no business there.
		trusting := l.tls.Clone()
		trusting.Certificates = nil
		g.realm = n.transport(trusting)
	}
	return &client{Client: http.Client{Transport: g, CheckRedirect: g.follow}, guard: g}
}

type client struct {
	http.Client
	guard *guard
}

func (c *client) close() {
	for _, t := range []*http.Transport{c.guard.own, c.guard.realm} {
		if t != c.guard.plain {
			t.CloseIdleConnections()
		}
	}
}

// guard looks at every single request, whoever asked for it: an index, a redirect, or
// a registry that sends us to another server for a token.
type guard struct {
	*network
	home  *url.URL // the repository that the credentials are for
	login login
	oci   bool
	// own has the certificates of the login, realm only its CA.
	own, realm *http.Transport
}

// RoundTrip sends a request that policy allows. What a password may go to is home, and
// a token server that home itself names: that is no more than home could ask for on its
// own, as long as it is https that says so.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.allowed(req.URL); err != nil {
		return nil, err
	}
	if sameHost(req.URL, g.home) {
		resp, err := g.own.RoundTrip(req)
		if err != nil || !g.oci || resp.StatusCode != http.StatusUnauthorized {
			return resp, err
		}
		if err := g.challenged(resp.Header.Get("Www-Authenticate")); err != nil {
			resp.Body.Close()
			return nil, err
		}
		return resp, nil
	}
	t := g.plain
	// A request to another server that no redirect has led to is one for a token.
	if g.oci && req.Response == nil {
		if err := g.tokenServer(req.URL); err != nil {
			return nil, err
		}
		t = g.realm
	} else {
		req = req.Clone(req.Context())
		req.Header.Del("Authorization")
		// Go takes a redirect's referrer from the URL, which may have a token in it.
		req.Header.Del("Referer")
	}
	return t.RoundTrip(req)
}

var realms = regexp.MustCompile(`(?i)\brealm\s*=\s*("[^"]*"|[^\s,"]+)`)

// challenged looks at what an OCI registry asks of us before it is given.
func (g *guard) challenged(challenge string) error {
	scheme, params, _ := strings.Cut(strings.TrimSpace(challenge), " ")
	switch strings.ToLower(scheme) {
	case "basic":
		if g.login.username == "" || g.login.password == "" {
			return &unwelcome{"the registry asks for a user name and a password"}
		}
	case "bearer":
		for _, m := range realms.FindAllStringSubmatch(params, -1) {
			u, err := url.Parse(strings.Trim(m[1], `"`))
			if err != nil {
				return forbid("the registry sends us for a token to what is not a URL")
			}
			if err := g.tokenServer(u); err != nil {
				return err
			}
		}
	}
	return nil
}

// tokenServer tells whether we go there for a token.
func (g *guard) tokenServer(u *url.URL) error {
	if sameHost(u, g.home) {
		return nil
	}
	if u.Scheme != "https" || g.home.Scheme != "https" {
		return forbid("the registry sends us for a token to %s://%s: that has to be the registry itself, or both have to be https", u.Scheme, u.Host)
	}
	if err := g.allowed(u); err != nil {
		return forbid("the registry sends us for a token to %s: %w", u.Host, err)
	}
	return nil
}

// unwelcome says that credentials are missing or of another kind than is asked for.
type unwelcome struct{ why string }

func (e *unwelcome) Error() string { return e.why }

// follow lets up to five redirects be followed, with credentials to home only, and out
// of encryption never: on the way anybody could say what is installed.
func (g *guard) follow(req *http.Request, via []*http.Request) error {
	before := via[len(via)-1]
	switch {
	case len(via) > 5:
		return forbid("redirect refused: more than five")
	case before.URL.Scheme == "https" && req.URL.Scheme == "http":
		return forbid("redirect refused: it goes from https to http, to host %s", req.URL.Host)
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		return forbid("redirect refused: it would take what was posted along")
	}
	if err := g.allowed(req.URL); err != nil {
		return forbid("redirect refused: %w", err)
	}
	return nil
}

// sameHost tells whether two URLs are of one server: scheme, host and port.
func sameHost(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}
