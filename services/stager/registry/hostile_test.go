package registry_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
)

// pour without end, or until nobody wants any more.
func pour(w io.Writer, text string) {
	for line := strings.Repeat(text, 1000); ; {
		if _, err := io.WriteString(w, line); err != nil {
			return
		}
	}
}

func serve(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestHostileRepositories(t *testing.T) {
	slow := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, "#\n")
			w.(http.Flusher).Flush()
			select {
			case <-time.After(10 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	}
	hop := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	secure := httptest.NewTLSServer(hop("http://127.0.0.1:1/"))
	t.Cleanup(secure.Close)
	for name, c := range map[string]struct {
		url, reason, say string
	}{
		"EndlessIndex": {serve(t, func(w http.ResponseWriter, _ *http.Request) { pour(w, "# more\n") }), v1alpha1.ReasonRepositoryRefused, "larger than"},
		"EndlessGzip": {serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			pour(w, "\x1f\x8b")
		}), v1alpha1.ReasonRepositoryUnreachable, "reading the index"},
		"EndlessArchive": {serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/index.yaml" {
				fmt.Fprint(w, "{apiVersion: v1, entries: {web: [{version: 1.0.0, urls: [web.tgz]}]}}")
				return
			}
			pour(w, "more")
		}), v1alpha1.ReasonRepositoryRefused, "larger than"},
		"Slow":      {serve(t, slow), v1alpha1.ReasonRepositoryUnreachable, "deadline exceeded"},
		"OtherHost": {serve(t, hop("http://elsewhere.example.org/index.yaml")), v1alpha1.ReasonRepositoryRefused, `host "elsewhere.example.org" is not one of those`},
		"OtherIndex": {serve(t, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "{apiVersion: v1, entries: {web: [{version: 1.0.0, urls: ['http://elsewhere.example.org/web.tgz']}]}}")
		}), v1alpha1.ReasonRepositoryRefused, `host "elsewhere.example.org" is not one of those`},
		"OtherRegistry": {"oci://elsewhere.example.org/charts", v1alpha1.ReasonRepositoryRefused, `host "elsewhere.example.org" is not one of those`},
	} {
		t.Run(name, func(t *testing.T) {
			reg := registry.New(registry.Options{AllowPrivate: true, AllowHosts: []string{"127.0.0.1", "*.allowed.example.org"}, MaxIndex: 1 << 20, MaxArchive: 1 << 20, Timeout: 300 * time.Millisecond})
			begin := time.Now()
			err := registry.FetchAll(t.Context(), reg, []registry.Ref{{URL: c.url, Name: "web", Version: "1.0.0"}}, 1)[0].Err
			wantRefused(t, err, c.reason, c.say)
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	creds := credentials(t, "ca.crt", string((&depot{Server: secure}).ca()))
	_, err := local().Resolve(t.Context(), registry.Ref{URL: secure.URL, Name: "web", Credentials: creds})
	wantRefused(t, err, v1alpha1.ReasonRepositoryRefused, "from https to http")
}

func TestRedirectsTakeNoCredentialsAlong(t *testing.T) {
	away := newShelf(t, index, nil)
	home := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, away.URL+r.URL.Path, http.StatusFound)
	})
	for _, c := range []*registry.Credentials{credentials(t, "username", "u", "password", "canary"), credentials(t, "token", "canary")} {
		if _, err := local().Resolve(t.Context(), registry.Ref{URL: home, Name: "web", Credentials: c}); err != nil {
			t.Error(err)
		}
	}
	if len(away.auth) != 2 || away.auth[0]+away.auth[1] != "" {
		t.Errorf("another port of the same machine is another server, and got %q", away.auth)
	}
}

// A server that repeats what it was told, where only a message would show it.
func TestNoServerGetsASecretTold(t *testing.T) {
	raw := func(line string) *depot {
		return newDepot(t, false, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") == "" {
				return basic("u", "canary")(w, r)
			}
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return true
			}
			defer c.Close()
			_, _ = io.WriteString(c, line)
			return true
		})
	}
	creds := credentials(t, "username", "u", "password", "canary")
	for _, line := range []string{
		"HTTP/1.1 canary\r\n\r\n", "canary\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: ftp://canary.example.org/\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: http://%zz-dTpjYW5hcnk=\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: canary\r\n\r\n",
	} {
		d := raw(line)
		for _, url := range []string{d.url(), d.URL} {
			_, err := local().Resolve(t.Context(), registry.Ref{URL: url, Name: "web", Version: "1.0.0", Credentials: creds})
			wantRefused(t, err, refusal.Reason(err), "")
			if refusal.Reason(err) == "" {
				t.Errorf("%q: %v", line, err)
			}
		}
	}
}

// attack is a registry with one chart, of which one answer is not as it should be.
func attack(t *testing.T, path string, answer http.HandlerFunc) *depot {
	d := newDepot(t, false, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, path) {
			return false
		}
		answer(w, r)
		return true
	})
	d.chart(t, "web", "1.0.0")
	return d
}

func TestHostileRegistries(t *testing.T) {
	evil := newDepot(t, false, func(w http.ResponseWriter, r *http.Request) bool { echo(w, r, http.StatusOK); return true })
	evilTLS := newDepot(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+evil.URL+`/token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	lie := func(change func(*ocispec.Descriptor)) *depot {
		d := newDepot(t, false, nil)
		d.chart(t, "web", "1.0.0")
		config := d.blob(t, "web", mediaConfig, []byte(`{"name":"web","version":"1.0.0"}`))
		layer := d.blob(t, "web", mediaChart, []byte(archiveOf("web", "1.0.0")))
		change(&layer)
		// As the registry would not take it, were it what it is said to be.
		data, err := json.Marshal(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer}})
		if err != nil {
			t.Fatal(err)
		}
		d.wrap = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
				_, _ = w.Write(data)
				return true
			}
			if strings.HasSuffix(r.URL.Path, digest.FromString("another").String()) {
				fmt.Fprint(w, archiveOf("web", "1.0.0"))
				return true
			}
			return false
		}
		return d
	}
	pages := 0
	for name, c := range map[string]struct {
		d           *depot
		reason, say string
	}{
		"EndlessManifest": {attack(t, "/manifests/", func(w http.ResponseWriter, _ *http.Request) { pour(w, " ") }), v1alpha1.ReasonRepositoryRefused, "larger than 4194304"},
		"EndlessBlob":     {attack(t, "/blobs/", func(w http.ResponseWriter, _ *http.Request) { pour(w, " ") }), v1alpha1.ReasonDigestMismatch, "bytes, as its manifest says"},
		"ShortBlob":       {attack(t, "/blobs/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }), v1alpha1.ReasonDigestMismatch, "bytes, as its manifest says"},
		"EndlessTags":     {attack(t, "/tags/", func(w http.ResponseWriter, _ *http.Request) { pour(w, " ") }), v1alpha1.ReasonRepositoryUnreachable, "the list of tags"},
		"TagsForever": {attack(t, "/tags/", func(w http.ResponseWriter, r *http.Request) {
			pages++
			w.Header().Set("Link", fmt.Sprintf(`</v2/charts/web/tags/list?last=%d>; rel="next"`, pages))
			fmt.Fprint(w, `{"tags":["0.1.0"]}`)
		}), v1alpha1.ReasonRepositoryRefused, "more pages than are read"},
		"ManyTags": {attack(t, "/tags/", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", `</v2/charts/web/tags/list>; rel="next"`)
			fmt.Fprint(w, `{"tags":["x"`+strings.Repeat(`,"1.0.0"`, 10_000)+`]}`)
		}), v1alpha1.ReasonRepositoryRefused, "more than 100000 tags"},
		"NextElsewhere": {attack(t, "/tags/", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", `<`+evil.URL+`/v2/charts/web/tags/list>; rel="next"`)
			fmt.Fprint(w, `{"tags":[]}`)
		}), v1alpha1.ReasonRepositoryUnreachable, "not that of an OCI registry"},
		"Realm":         {attack(t, "/v2/", challenge(evil.URL+"/token")), v1alpha1.ReasonRepositoryRefused, "sends us for a token to http://127.0.0.1"},
		"RealmTLS":      {attack(t, "/v2/", challenge(evilTLS.URL+"/token")), v1alpha1.ReasonRepositoryRefused, "both have to be https"},
		"RealmFile":     {attack(t, "/v2/", challenge("file:///etc/passwd")), v1alpha1.ReasonRepositoryRefused, "sends us for a token to file://"},
		"RealmMetadata": {attack(t, "/v2/", challenge("http://169.254.169.254/token")), v1alpha1.ReasonRepositoryRefused, "169.254.169.254"},
		"BlobElsewhere": {attack(t, "/blobs/", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, evil.URL+"/blob", http.StatusTemporaryRedirect)
		}), v1alpha1.ReasonDigestMismatch, "is not of"},
		"Echo": {attack(t, "/v2/", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			echo(w, r, http.StatusTeapot)
		}), v1alpha1.ReasonRepositoryUnreachable, "418"},
		"LieLarge":  {lie(func(l *ocispec.Descriptor) { l.Size = 1 << 40 }), v1alpha1.ReasonRepositoryRefused, "larger than"},
		"LieSmall":  {lie(func(l *ocispec.Descriptor) { l.Size-- }), v1alpha1.ReasonDigestMismatch, "bytes, as its manifest says"},
		"LieNone":   {lie(func(l *ocispec.Descriptor) { l.Size = -1 }), v1alpha1.ReasonInvalidChart, "no size"},
		"LieDigest": {lie(func(l *ocispec.Descriptor) { l.Digest = digest.FromString("another") }), v1alpha1.ReasonDigestMismatch, "has digest"},
		"LieName":   {lie(func(l *ocispec.Descriptor) { l.Digest = "sha256:../../other" }), v1alpha1.ReasonInvalidChart, "no digest of sha256"},
		"NoChart":   {lie(func(l *ocispec.Descriptor) { l.MediaType = "text/plain" }), v1alpha1.ReasonInvalidChart, "has no layer of media type"},
	} {
		t.Run(name, func(t *testing.T) {
			wantRefused(t, fetch(t, c.d.url(), credentials(t, "username", "u", "password", "canary")), c.reason, c.say)
		})
	}
	for who := range evil.auth {
		if who != "" {
			t.Errorf("another server got %q", who)
		}
	}
}

// challenge sends everybody to a realm.
func challenge(realm string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="s"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// A server that a download was redirected to asks for a password, with its own realm.
func TestOnlyTheRegistryNamesARealm(t *testing.T) {
	var away *depot
	thief := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			echo(w, r, http.StatusOK)
		} else {
			challenge(away.URL+"/token")(w, r)
		}
		return true
	}
	away = newDepot(t, false, thief)
	ask := basic("u", "canary")
	d := newDepot(t, false, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, away.URL+"/blob", http.StatusTemporaryRedirect)
			return true
		}
		return ask(w, r)
	})
	d.chart(t, "web", "1.0.0")
	err := fetch(t, d.url(), credentials(t, "username", "u", "password", "canary"))
	wantRefused(t, err, v1alpha1.ReasonAuthenticationFailed, "401")
	if n := away.requests("/token"); n != 0 {
		t.Errorf("its realm was asked %d times", n)
	}
	if len(away.auth) != 1 || !away.auth[""] {
		t.Errorf("the other server was asked with %v, want once without credentials", away.auth)
	}
}
