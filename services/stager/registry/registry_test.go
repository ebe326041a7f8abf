package registry_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
)

// shelf is a Helm repository: an index, files, and what was asked of it.
type shelf struct {
	*httptest.Server
	mu    sync.Mutex
	index string
	files map[string]string // by path
	asked []string
	auth  []string // Authorization headers seen
}

func newShelf(t *testing.T, index string, files map[string]string) *shelf {
	s := &shelf{index: index, files: files}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.URL.RequestURI())
	s.auth = append(s.auth, r.Header.Get("Authorization"))
	if strings.HasSuffix(r.URL.Path, "/index.yaml") {
		tag := `"` + archive.Digest([]byte(s.index))[7:20] + `"`
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			s.asked[len(s.asked)-1] += " (unchanged)"
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, strings.ReplaceAll(s.index, "HERE", "http://"+r.Host))
		return
	}
	body, ok := s.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	fmt.Fprint(w, body)
}

func (s *shelf) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

const index = `apiVersion: v1
entries:
  web:
    - {apiVersion: v2, name: web, version: 1.2.0, urls: [web-1.2.0.tgz]}
    - {apiVersion: v2, name: web, version: 2.0.0-rc.1, urls: [web-2.0.0-rc.1.tgz]}
    - {apiVersion: v2, name: web, version: 1.10.0, urls: [sub/web-1.10.0.tgz]}
    - {apiVersion: v2, name: web, version: 1.9.0, urls: ["HERE/else/where/web.tgz?token=t"]}
  odd:
    - {apiVersion: v2, name: odd, version: v1, urls: [odd-v1.tgz]}
    - {apiVersion: v2, name: odd, version: v0.9.0+build.1, urls: [odd.tgz]}
    - {apiVersion: v2, name: odd, version: not a version, urls: [never.tgz]}
  empty: []
`

func TestResolve(t *testing.T) {
	s := newShelf(t, index, nil)
	for name, c := range map[string]struct {
		promise        string
		path, chart, v string
		version, url   string
	}{
		"Newest":     {"no version is the newest that is no pre-release", "/charts", "web", "", "1.10.0", "/charts/sub/web-1.10.0.tgz"},
		"Star":       {"neither is *", "/charts/", "web", "*", "1.10.0", "/charts/sub/web-1.10.0.tgz"},
		"Range":      {"a range is resolved as semver, not as text", "", "web", "~1.2", "1.2.0", "/web-1.2.0.tgz"},
		"Below":      {"a range with two ends", "", "web", ">=1.0.0 <1.10.0", "1.9.0", "/else/where/web.tgz?token=t"},
		"Exact":      {"an exact version, with an archive at an absolute URL", "/charts", "web", "1.9.0", "1.9.0", "/else/where/web.tgz?token=t"},
		"Prerelease": {"a pre-release where it is asked for", "", "web", ">1.10.0-0", "2.0.0-rc.1", "/web-2.0.0-rc.1.tgz"},
		"VPrefix":    {"a version with a v is found as it is written", "", "odd", "v1", "v1", "/odd-v1.tgz"},
		"NoVPrefix":  {"and without", "", "odd", "1.0.0", "v1", "/odd-v1.tgz"},
		"Metadata":   {"build metadata", "", "odd", "v0.9.0+build.1", "v0.9.0+build.1", "/odd.tgz"},
		"Query":      {"the query of the repository's URL goes along", "/c?key=k", "web", "1.2.0", "1.2.0", "/c/web-1.2.0.tgz?key=k"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := registry.New(registry.Options{AllowPrivate: true}).Resolve(t.Context(),
				registry.Ref{URL: s.URL + c.path, Name: c.chart, Version: c.v})
			if err != nil {
				t.Fatalf("%s: %v", c.promise, err)
			}
			if diff := cmp.Diff([]string{c.chart, c.version, s.URL + c.url}, []string{r.Name, r.Version, r.URL}); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.promise, diff)
			}
		})
	}
}

// pin is a digest that is that of nothing.
func pin(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }

func TestRefusals(t *testing.T) {
	s := newShelf(t, `apiVersion: v1
entries:
  web:
    - {apiVersion: v2, name: web, version: 1.0.0, urls: [web-1.0.0.tgz], digest: "0000"}
    - {apiVersion: v2, name: web, version: 0.9.0, urls: [gone.tgz]}
    - {apiVersion: v2, name: web, version: 0.8.0}
    - {apiVersion: v2, name: web, version: 0.7.0, urls: ["oci://127.0.0.1:1/web:0.7.0"]}
    - {apiVersion: v2, name: web, version: 0.6.0, urls: [large.tgz]}
  api:
    - {apiVersion: v2, name: api, version: 0.5.0, urls: [web-1.0.0.tgz]}
`, map[string]string{"/web-1.0.0.tgz": "changed", "/large.tgz": strings.Repeat("x", 2000)})
	broken := newShelf(t, "<html>", nil)
	failing := func(code int) string {
		f := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
		t.Cleanup(f.Close)
		return f.URL
	}
	gone := httptest.NewServer(nil)
	gone.Close()

	for name, c := range map[string]struct {
		ref         registry.Ref
		publicOnly  bool
		reason, say string
	}{
		"UnknownChart":   {registry.Ref{URL: s.URL, Name: "wep"}, false, v1alpha1.ReasonChartNotFound, `no chart "wep"; its charts are api, web`},
		"UnknownVersion": {registry.Ref{URL: s.URL, Name: "web", Version: "9.9.9"}, false, v1alpha1.ReasonChartNotFound, `no version "9.9.9" of chart "web"; its versions are 1.0.0, 0.9.0`},
		"NotAVersion":    {registry.Ref{URL: s.URL, Name: "web", Version: "latest!"}, false, v1alpha1.ReasonChartNotFound, `no version "latest!"`},
		"NoIndex":        {registry.Ref{URL: failing(404), Name: "web"}, false, v1alpha1.ReasonChartNotFound, "404 Not Found; check chart.url"},
		"ArchiveGone":    {registry.Ref{URL: s.URL, Name: "web", Version: "0.9.0"}, false, v1alpha1.ReasonChartNotFound, "fetching chart web 0.9.0"},
		"NoURL":          {registry.Ref{URL: s.URL, Name: "web", Version: "0.8.0"}, false, v1alpha1.ReasonChartNotFound, "no URL"},
		"Digest":         {registry.Ref{URL: s.URL, Name: "web", Version: "1.0.0"}, false, v1alpha1.ReasonDigestMismatch, "promises sha256:0000"},
		"TooLarge":       {registry.Ref{URL: s.URL, Name: "web", Version: "0.6.0"}, false, v1alpha1.ReasonRepositoryRefused, "larger than 1000 bytes"},
		"Unauthorized":   {registry.Ref{URL: failing(401), Name: "web"}, false, v1alpha1.ReasonAuthenticationFailed, "authSecretRef"},
		"Failing":        {registry.Ref{URL: failing(503), Name: "web"}, false, v1alpha1.ReasonRepositoryUnreachable, "503"},
		"NotAnIndex":     {registry.Ref{URL: broken.URL, Name: "web"}, false, v1alpha1.ReasonRepositoryUnreachable, "reading the index"},
		"Down":           {registry.Ref{URL: gone.URL, Name: "web"}, false, v1alpha1.ReasonRepositoryUnreachable, "refused"},
		"OCIInIndex":     {registry.Ref{URL: s.URL, Name: "web", Version: "0.7.0"}, false, v1alpha1.ReasonRepositoryUnreachable, "fetching oci://127.0.0.1:1/web"},
		"OCIPassword":    {registry.Ref{URL: "oci://user:canary@example.org", Name: "web"}, false, v1alpha1.ReasonRepositoryRefused, "credentials are for the Secret"},
		"OCITag":         {registry.Ref{URL: "oci://example.org/charts:1.0.0", Name: "web"}, false, v1alpha1.ReasonRepositoryRefused, "without tag or digest"},
		"File":           {registry.Ref{URL: "file:///etc", Name: "web"}, false, v1alpha1.ReasonRepositoryRefused, "not an http, https or oci URL"},
		"AnotherDigest":  {registry.Ref{URL: s.URL, Name: "web", Version: "1.0.0", Digest: pin("1")}, false, v1alpha1.ReasonDigestMismatch, "chart.digest asks for sha256:1111"},
		"AnotherArchive": {registry.Ref{URL: s.URL, Name: "api", Digest: pin("1")}, false, v1alpha1.ReasonDigestMismatch, "chart.digest asks for sha256:1111"},
		"Loopback":       {registry.Ref{URL: s.URL, Name: "web"}, true, v1alpha1.ReasonRepositoryRefused, "not an address of the public internet"},
		"LoopbackByName": {registry.Ref{URL: strings.Replace(s.URL, "127.0.0.1", "localhost", 1), Name: "web"}, true, v1alpha1.ReasonRepositoryRefused, "not an address of the public internet"},
		"Metadata":       {registry.Ref{URL: "http://169.254.169.254/latest", Name: "web"}, true, v1alpha1.ReasonRepositoryRefused, "169.254.169.254"},
		"MappedIPv6":     {registry.Ref{URL: "http://[::ffff:10.0.0.1]/", Name: "web"}, true, v1alpha1.ReasonRepositoryRefused, "10.0.0.1"},
		"Password":       {registry.Ref{URL: "ftp://user:canary@example.org", Name: "web"}, false, v1alpha1.ReasonRepositoryRefused, "user:xxxxx@"},
		"Unparsable":     {registry.Ref{URL: "http://user:canary@ex ample.org", Name: "web"}, false, v1alpha1.ReasonRepositoryRefused, "does not parse"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := registry.New(registry.Options{AllowPrivate: !c.publicOnly, MaxArchive: 1000})
			err := registry.FetchAll(t.Context(), reg, []registry.Ref{c.ref}, 1)[0].Err
			if got := refusal.Reason(err); got != c.reason {
				t.Errorf("reason %q, want %q: %v", got, c.reason, err)
			}
			if err == nil || !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), "canary") {
				t.Errorf("message %q, want it to say %q and no password", err, c.say)
			}
		})
	}
}

func TestAPinChoosesTheVersion(t *testing.T) {
	digest := archive.Digest([]byte("pinned"))
	s := newShelf(t, `{apiVersion: v1, entries: {web: [
		{version: 1.3.0, urls: [new.tgz], digest: "`+strings.Repeat("0", 64)+`"},
		{version: 1.2.0-rc.1, urls: [pinned.tgz], digest: "`+digest+`"},
		{version: 1.1.0, urls: [pinned.tgz], digest: "`+digest[len("sha256:"):]+`"}],
		api: [{version: 1.0.0, urls: [pinned.tgz]}]}}`, map[string]string{"/pinned.tgz": "pinned"})
	for _, c := range []struct{ chart, version, want string }{{"web", "*", "1.1.0"}, {"web", "^1", "1.1.0"}, {"web", "1.2.0-rc.1", "1.2.0-rc.1"}, {"api", "", "1.0.0"}} {
		f := registry.FetchAll(t.Context(), local(), []registry.Ref{{URL: s.URL, Name: c.chart, Version: c.version, Digest: digest}}, 1)[0]
		if f.Err != nil || f.Version != c.want || string(f.Archive) != "pinned" {
			t.Errorf("%s %s: %+v, want %s", c.chart, c.version, f, c.want)
		}
	}
}

func TestRedirectsEnd(t *testing.T) {
	loop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := "/again"
		if strings.HasPrefix(r.URL.Path, "/file") {
			to = "file:///etc/passwd"
		}
		http.Redirect(w, r, to, http.StatusFound)
	}))
	t.Cleanup(loop.Close)
	for _, path := range []string{"/loop", "/file"} {
		_, err := registry.New(registry.Options{AllowPrivate: true}).Resolve(t.Context(), registry.Ref{URL: loop.URL + path, Name: "web"})
		if got := refusal.Reason(err); got != v1alpha1.ReasonRepositoryRefused {
			t.Errorf("%s: reason %q, want RepositoryRefused: %v", path, got, err)
		}
	}
}

func TestAnIndexIsAskedForOnceAndNeverSaysNoFromMemory(t *testing.T) {
	s := newShelf(t, index, nil)
	now := time.Unix(1000, 0)
	reg := registry.New(registry.Options{AllowPrivate: true, IndexTTL: time.Minute, Now: func() time.Time { return now }})
	resolve := func(version string) error {
		now = now.Add(time.Second)
		_, err := reg.Resolve(t.Context(), registry.Ref{URL: s.URL, Name: "web", Version: version})
		return err
	}
	want := func(step string, requests ...string) {
		t.Helper()
		if diff := cmp.Diff(requests, s.requests()); diff != "" {
			t.Errorf("%s: requests (-want +got):\n%s", step, diff)
		}
	}
	if err := errors.Join(resolve("1.2.0"), resolve("1.10.0")); err != nil {
		t.Fatal(err)
	}
	want("two charts of one repository", "/index.yaml")
	now = now.Add(2 * time.Minute)
	if err := resolve("1.2.0"); err != nil {
		t.Fatal(err)
	}
	want("when the time is over", "/index.yaml (unchanged)")
	if err := resolve("3.0.0"); refusal.Reason(err) != v1alpha1.ReasonChartNotFound {
		t.Fatalf("resolving what is not there: %v", err)
	}
	want("before a version is not found", "/index.yaml (unchanged)")
	s.mu.Lock()
	s.index += "  new:\n    - {apiVersion: v2, name: web, version: 3.0.0, urls: [web-3.tgz]}\n"
	s.index = strings.Replace(s.index, "  odd:", "    - {apiVersion: v2, name: web, version: 3.0.0, urls: [web-3.tgz]}\n  odd:", 1)
	s.mu.Unlock()
	if err := resolve("3.0.0"); err != nil {
		t.Fatalf("resolving what was published a moment ago: %v", err)
	}
	want("when a version is there by now", "/index.yaml")
}

func TestAnArchiveIsFetchedOnceByItsDigest(t *testing.T) {
	const body = "an archive"
	digest := archive.Digest([]byte(body))[len("sha256:"):]
	s := newShelf(t, `{apiVersion: v1, entries: {web: [
		{apiVersion: v2, name: web, version: 1.0.0, urls: [web.tgz], digest: `+digest+`},
		{apiVersion: v2, name: web, version: 0.9.0, urls: [web.tgz]}]}}`, map[string]string{"/web.tgz": body})
	reg := registry.New(registry.Options{AllowPrivate: true})
	refs := []registry.Ref{{URL: s.URL, Name: "web", Version: "1.0.0"}, {URL: s.URL, Name: "web", Version: "0.9.0"}}
	for range 2 {
		for _, f := range registry.FetchAll(t.Context(), reg, refs, 1) {
			if f.Err != nil || string(f.Archive) != body {
				t.Fatalf("fetching: %q, %v", f.Archive, f.Err)
			}
		}
	}
	if diff := cmp.Diff([]string{"/index.yaml", "/web.tgz", "/web.tgz", "/web.tgz"}, s.requests()); diff != "" {
		t.Errorf("only what has no digest is fetched again (-want +got):\n%s", diff)
	}
}

func TestCredentialsStayAtHome(t *testing.T) {
	away := newShelf(t, "", map[string]string{"/web.tgz": "w"})
	home := newShelf(t, `{apiVersion: v1, entries: {web: [
		{apiVersion: v2, name: web, version: 2.0.0, urls: ["`+away.URL+`/web.tgz"]},
		{apiVersion: v2, name: web, version: 1.0.0, urls: [web.tgz]}]}}`, map[string]string{"/web.tgz": "w"})
	creds, err := registry.CredentialsOf(map[string][]byte{"username": []byte("u"), "password": []byte("canary")})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range registry.FetchAll(t.Context(), registry.New(registry.Options{AllowPrivate: true}), []registry.Ref{
		{URL: home.URL, Name: "web", Version: "2.0.0", Credentials: creds},
		{URL: home.URL, Name: "web", Version: "1.0.0", Credentials: creds},
	}, 1) {
		if f.Err != nil {
			t.Fatal(f.Err)
		}
	}
	const basic = "Basic dTpjYW5hcnk="
	if diff := cmp.Diff([]string{basic, basic}, home.auth); diff != "" {
		t.Errorf("the repository gets the credentials (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{""}, away.auth); diff != "" {
		t.Errorf("another host does not (-want +got):\n%s", diff)
	}
}

func TestPrivateCAAndClientCertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, index)
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	key := []byte(keyPEM(t, s))
	resolve := func(data map[string][]byte) error {
		ref := registry.Ref{URL: s.URL, Name: "web"}
		if data != nil {
			var err error
			if ref.Credentials, err = registry.CredentialsOf(data); err != nil {
				return err
			}
		}
		_, err := registry.New(registry.Options{AllowPrivate: true}).Resolve(t.Context(), ref)
		return err
	}
	if err := resolve(map[string][]byte{"ca.crt": ca, "tls.crt": ca, "tls.key": key}); err != nil {
		t.Errorf("with the CA and a certificate, from PEM: %v", err)
	}
	if err := resolve(nil); refusal.Reason(err) != v1alpha1.ReasonRepositoryUnreachable || !strings.Contains(err.Error(), "ca.crt") {
		t.Errorf("without the CA, want a hint at ca.crt: %v", err)
	}
	if err := resolve(map[string][]byte{"ca.crt": ca}); refusal.Reason(err) != v1alpha1.ReasonAuthenticationFailed {
		t.Errorf("without a certificate, want AuthenticationFailed: %v", err)
	}
	for name, data := range map[string]map[string][]byte{
		"Empty":        {},
		"PasswordOnly": {"password": []byte("canary")},
		"NoKey":        {"tls.crt": ca},
		"NotPEM":       {"ca.crt": []byte("canary")},
		"Mismatch":     {"tls.crt": ca, "tls.key": []byte("canary")},
	} {
		if err := resolve(data); refusal.Reason(err) != v1alpha1.ReasonAuthenticationFailed || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: want AuthenticationFailed without the value: %v", name, err)
		}
	}
}

// keyPEM is the private key of a server with TLS.
func keyPEM(t *testing.T, s *httptest.Server) string {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

func TestStoppingIsNotTheRepositorysFault(t *testing.T) {
	asked := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	t.Cleanup(slow.Close)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	_, err := registry.New(registry.Options{AllowPrivate: true}).Resolve(ctx, registry.Ref{URL: slow.URL, Name: "web"})
	if refusal.Reason(err) != "" || !errors.Is(err, context.Canceled) {
		t.Errorf("want context.Canceled and no refusal, got %v", err)
	}
}
