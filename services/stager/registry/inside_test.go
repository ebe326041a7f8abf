package registry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
)

// A server that may be spoken to sends us to one that may not: what is looked at is
// the address that is dialled.
func TestRedirectsToPrivateAddresses(t *testing.T) {
	for _, to := range []string{
		"http://169.254.169.254/latest/meta-data/", "http://[::ffff:169.254.169.254]/", "http://127.0.0.1:1/", "http://localhost:1/",
		"http://0x7f000001/", "http://2130706433/", "http://10.0.0.1/",
	} {
		s := httptest.NewServer(http.RedirectHandler(to, http.StatusFound))
		r := New(Options{Timeout: 5 * time.Second}).(*schemes)
		public := r.http.plain.DialContext
		r.http.plain.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == s.Listener.Addr().String() { // which stands for one on the internet
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			return public(ctx, network, address)
		}
		_, err := r.Resolve(t.Context(), Ref{URL: s.URL, Name: "web"})
		s.Close()
		// Names that only some resolvers take for addresses may also not resolve.
		unknown := strings.HasPrefix(to, "http://0x") || strings.HasPrefix(to, "http://2130706433")
		if got := refusal.Reason(err); got != v1alpha1.ReasonRepositoryRefused && (!unknown || got != v1alpha1.ReasonRepositoryUnreachable) {
			t.Errorf("%s: %v", to, err)
		}
	}
}

func TestAllowedHosts(t *testing.T) {
	n := newNetwork(Options{AllowHosts: []string{"charts.example.org", "*.Example.com", "*"}})
	for raw, want := range map[string]bool{
		"https://charts.example.org/x": true, "https://CHARTS.example.org:8443/": true, "https://charts.example.org./": true,
		"https://a.example.com": true, "https://a.b.example.com": true,
		"https://example.com": false, "https://.example.com": false, "https://badexample.com": false, "https://example.org": false,
		"https://charts.example.org.evil.net": false, "https://charts.example.org@evil.net/": false,
		"ftp://charts.example.org": false, "https:///x": false,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.allowed(u); (err == nil) != want {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestPlainHTTP(t *testing.T) {
	secure := login{tls: (&http.Transport{}).TLSClientConfig}
	trusting, err := CredentialsOf(map[string][]byte{"username": []byte("u"), "password": []byte("p")})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o    Options
		host string
		want bool
	}{
		"Elsewhere":    {Options{AllowPrivate: true}, "registry.example.org", false},
		"Listed":       {Options{PlainHTTP: []string{"registry.example.org"}}, "registry.example.org:5000", true},
		"ListedPort":   {Options{PlainHTTP: []string{"registry.example.org:5000"}}, "registry.example.org:5000", true},
		"AnotherPort":  {Options{PlainHTTP: []string{"registry.example.org:5000"}}, "registry.example.org", false},
		"Loopback":     {Options{AllowPrivate: true}, "127.0.0.1:5000", true},
		"LoopbackIPv6": {Options{AllowPrivate: true}, "[::1]:5000", true},
		"Localhost":    {Options{AllowPrivate: true}, "localhost:5000", true},
		"NotAllowed":   {Options{}, "127.0.0.1:5000", false},
		"Private":      {Options{AllowPrivate: true}, "10.0.0.1:5000", false},
	} {
		if got := newNetwork(c.o).plainHTTP(c.host, secure); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if got := newNetwork(c.o).plainHTTP(c.host, trusting.plain); got != c.want {
			t.Errorf("%s with a password: %v", name, got)
		}
	}
}

func TestDockerEntries(t *testing.T) {
	c, err := parseDockerConfig([]byte(`{"auths":{
		"https://index.docker.io/v1/":{"username":"hub","password":"p"},
		"ghcr.io":{"username":"ghcr","password":"p"},
		"ghcr.io/team":{"username":"team","password":"p"},
		"https://ghcr.io/team/inner":{"username":"inner","password":"p"},
		"registry.example.org:5000":{"username":"port","password":"p"},
		"empty.example.org":{}},
		"credHelpers":{"helped.example.org":"x"}}`))
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]string{
		"docker.io/library/web": "hub", "registry-1.docker.io/x": "hub", "index.docker.io/x": "hub",
		"ghcr.io/other/web": "ghcr", "ghcr.io/team/web": "team", "ghcr.io/teams/web": "ghcr", "ghcr.io/team/inner/web": "inner", "GHCR.io/team": "team",
		"registry.example.org:5000/web": "port", "registry.example.org/web": "", "empty.example.org/web": "", "helped.example.org/web": "", "notghcr.io/web": "",
	} {
		host, path, _ := strings.Cut(at, "/")
		l, err := c.login(host, "/"+path)
		if l.username != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, want %q: %v", at, l.username, want, err)
		}
		if helped := errors.Is(err, errHelper); helped != (host == "helped.example.org") {
			t.Errorf("%s: %v", at, err)
		}
	}
}
