package registry_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
)

// basic lets in who has a name and a password. Who has not gets them thrown back.
func basic(user, password string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if u, p, _ := r.BasicAuth(); u == user && p == password {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="depot"`)
		echo(w, r, http.StatusUnauthorized)
		return true
	}
}

// echo answers with what it was told.
func echo(w http.ResponseWriter, r *http.Request, code int) {
	u, p, _ := r.BasicAuth()
	w.Header().Set("Docker-Content-Digest", u+p+r.Header.Get("Authorization"))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"%s %s %s"}]}`, u, p, r.Header.Get("Authorization"))
}

// bearer lets in who has the token, and sends others to a realm.
func bearer(token string, realm func() string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer "+token {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="depot",scope="repository:charts/web:pull"`, realm()))
		echo(w, r, http.StatusUnauthorized)
		return true
	}
}

// tokens gives a token to who has a name and a password, or a refresh token.
func tokens(token, user, password, refresh string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u, p, _ := r.BasicAuth()
		if (u != user || p != password) && (refresh == "" || r.PostFormValue("refresh_token") != refresh) {
			echo(w, r, http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `{"token":%q,"access_token":%q}`, token, token)
	}
}

// fetch a chart of a registry, whole.
func fetch(t *testing.T, url string, c *registry.Credentials) error {
	t.Helper()
	f := registry.FetchAll(t.Context(), local(), []registry.Ref{{URL: url, Name: "web", Version: "*", Credentials: c}}, 1)[0]
	if f.Err == nil && string(f.Archive) != archiveOf("web", "1.0.0") {
		t.Errorf("the archive is %q", f.Archive)
	}
	return f.Err
}

// wantRefused and a message without the canary, which stands for all that is secret.
func wantRefused(t *testing.T, err error, reason string, say string) {
	t.Helper()
	if refusal.Reason(err) != reason || !strings.Contains(err.Error(), say) {
		t.Errorf("want %s %q, got %s: %v", reason, say, refusal.Reason(err), err)
	}
	if err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), base64.StdEncoding.EncodeToString([]byte("u:canary")))) {
		t.Errorf("a secret is in the message: %v", err)
	}
}

func TestOCILogins(t *testing.T) {
	t.Run("Basic", func(t *testing.T) {
		d := newDepot(t, false, basic("u", "canary"))
		d.chart(t, "web", "1.0.0")
		if err := fetch(t, d.url(), credentials(t, "username", "u", "password", "canary")); err != nil {
			t.Error(err)
		}
		wantRefused(t, fetch(t, d.url(), credentials(t, "username", "u", "password", "canary2")), v1alpha1.ReasonAuthenticationFailed, "check the Secret")
		wantRefused(t, fetch(t, d.url(), nil), v1alpha1.ReasonAuthenticationFailed, "asks for a user name and a password")
		wantRefused(t, fetch(t, d.url(), credentials(t, "token", "canary")), v1alpha1.ReasonAuthenticationFailed, "asks for a user name and a password")
	})
	t.Run("BadRealm", func(t *testing.T) {
		d := newDepot(t, false, bearer("canary", func() string { return "http://127.0.0.1:1/" }))
		d.chart(t, "web", "1.0.0")
		wantRefused(t, fetch(t, d.url(), credentials(t, "token", "canary")), v1alpha1.ReasonRepositoryRefused, "sends us for a token to http://127.0.0.1:1")
	})
	t.Run("BearerOfItsOwn", func(t *testing.T) {
		var d *depot
		give := tokens("canary-token", "u", "canary", "canary-refresh")
		ask := bearer("canary-token", func() string { return d.URL + "/token" })
		d = newDepot(t, false, func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				give(w, r)
				return true
			}
			return ask(w, r)
		})
		d.chart(t, "web", "1.0.0")
		if err := fetch(t, d.url(), credentials(t, "username", "u", "password", "canary")); err != nil {
			t.Error(err)
		}
		if n := d.requests("/token"); n != 1 {
			t.Errorf("a token was asked for %d times, want once", n)
		}
		if err := fetch(t, d.url(), credentials(t, "token", "canary-token")); err != nil {
			t.Errorf("with a token as it is: %v", err)
		}
		if err := fetch(t, d.url(), docker(t, d.Listener.Addr().String(), `{"identitytoken":"canary-refresh"}`)); err != nil {
			t.Errorf("with an identity token: %v", err)
		}
		wantRefused(t, fetch(t, d.url(), credentials(t, "username", "u", "password", "canary2")), v1alpha1.ReasonAuthenticationFailed, "check the Secret")
	})
	t.Run("BearerElsewhere", func(t *testing.T) {
		give := tokens("canary-token", "u", "canary", "")
		server := newDepot(t, true, func(w http.ResponseWriter, r *http.Request) bool {
			if len(r.TLS.PeerCertificates) > 0 {
				t.Error("the client certificate is shown to another server than the registry")
			}
			give(w, r)
			return true
		})
		d := newDepot(t, true, bearer("canary-token", func() string { return server.URL + "/token" }))
		d.chart(t, "web", "1.0.0")
		if err := fetch(t, d.url(), credentials(t, "username", "u", "password", "canary", "ca.crt", string(d.ca()),
			"tls.crt", string(d.ca()), "tls.key", keyPEM(t, d.Server))); err != nil {
			t.Errorf("a realm at another server is asked over https: %v", err)
		}
		picky := registry.New(registry.Options{AllowPrivate: true, AllowHosts: []string{"127.0.0.1"}})
		far := newDepot(t, true, bearer("canary-token", func() string { return "https://elsewhere.example.org/token" }))
		_, err := picky.Resolve(t.Context(), registry.Ref{URL: far.url(), Name: "web", Version: "1.0.0",
			Credentials: credentials(t, "username", "u", "password", "canary", "ca.crt", string(far.ca()))})
		wantRefused(t, err, v1alpha1.ReasonRepositoryRefused, `host "elsewhere.example.org" is not one of those`)
	})
	t.Run("MutualTLS", func(t *testing.T) {
		d := newDepot(t, true, func(w http.ResponseWriter, r *http.Request) bool {
			if len(r.TLS.PeerCertificates) > 0 {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			return true
		})
		d.chart(t, "web", "1.0.0")
		if err := fetch(t, d.url(), credentials(t, "ca.crt", string(d.ca()), "tls.crt", string(d.ca()), "tls.key", keyPEM(t, d.Server))); err != nil {
			t.Error(err)
		}
		wantRefused(t, fetch(t, d.url(), credentials(t, "ca.crt", string(d.ca()))), v1alpha1.ReasonAuthenticationFailed, "403")
	})
	t.Run("Docker", func(t *testing.T) {
		d := newDepot(t, false, basic("u", "canary"))
		d.chart(t, "web", "1.0.0")
		if err := fetch(t, d.url(), docker(t, "https://"+d.Listener.Addr().String()+"/v2/", `{"auth":"dTpjYW5hcnk="}`)); err != nil {
			t.Error(err)
		}
		wantRefused(t, fetch(t, d.url(), docker(t, "other.example.org", `{"auth":"dTpjYW5hcnk="}`)), v1alpha1.ReasonAuthenticationFailed, "nothing in its auths for host 127.0.0.1")
	})
}

// docker is a Secret of type kubernetes.io/dockerconfigjson with one entry.
func docker(t *testing.T, host, entry string) *registry.Credentials {
	t.Helper()
	data, err := json.Marshal(map[string]any{"auths": map[string]any{host: json.RawMessage(entry)}})
	if err != nil {
		t.Fatal(err)
	}
	return credentials(t, ".dockerconfigjson", string(data))
}

func TestHTTPLogins(t *testing.T) {
	s := newShelf(t, index, nil)
	resolve := func(c *registry.Credentials) error {
		_, err := local().Resolve(t.Context(), registry.Ref{URL: s.URL + "/charts", Name: "web", Credentials: c})
		return err
	}
	host := s.Listener.Addr().String()
	for want, c := range map[string]*registry.Credentials{
		"Bearer canary":        credentials(t, "token", "canary"),
		"Basic dTpjYW5hcnk=":   docker(t, host, `{"username":"u","password":"canary"}`),
		"Basic dTI6Y2FuYXJ5":   docker(t, host+"/charts", `{"auth":"dTI6Y2FuYXJ5"}`),
		"Bearer canary-direct": docker(t, "http://"+host, `{"registrytoken":"canary-direct"}`),
	} {
		s.auth = nil
		if err := resolve(c); err != nil || len(s.auth) != 1 || s.auth[0] != want {
			t.Errorf("want %q sent, got %q: %v", want, s.auth, err)
		}
	}
	wantRefused(t, resolve(docker(t, host, `{"identitytoken":"canary"}`)), v1alpha1.ReasonAuthenticationFailed, "that is for OCI registries")
	wantRefused(t, resolve(docker(t, host+"/other", `{"auth":"dTpjYW5hcnk="}`)), v1alpha1.ReasonAuthenticationFailed, "nothing in its auths")
}

func TestSecretsThatAreNone(t *testing.T) {
	for name, c := range map[string]struct{ key, value, say string }{
		"NotJSON":    {".dockerconfigjson", "canary", "not the JSON"},
		"NotBase64":  {".dockerconfigjson", `{"auths":{"h":{"auth":"canary"}}}`, "not the base64"},
		"NoAuths":    {".dockerconfigjson", `{"auths":{}}`, "has no auths"},
		"CredsStore": {".dockerconfigjson", `{"credsStore":"canary"}`, "credential helper"},
		"Helper":     {".dockerconfigjson", `{"credHelpers":{"h":"canary"}}`, "credential helper"},
	} {
		_, err := registry.CredentialsOf(map[string][]byte{c.key: []byte(c.value)})
		t.Run(name, func(t *testing.T) { wantRefused(t, err, v1alpha1.ReasonAuthenticationFailed, c.say) })
	}
	_, err := registry.CredentialsOf(map[string][]byte{"username": []byte("u"), "password": []byte("canary"), "token": []byte("canary")})
	wantRefused(t, err, v1alpha1.ReasonAuthenticationFailed, "only one")
	helped, err := registry.CredentialsOf(map[string][]byte{".dockerconfigjson": []byte(`{"auths":{"h.example.org":{}},"credsStore":"desktop"}`)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = local().Resolve(t.Context(), registry.Ref{URL: "oci://h.example.org/charts", Name: "web", Credentials: helped})
	wantRefused(t, err, v1alpha1.ReasonAuthenticationFailed, "credential helper")
}
