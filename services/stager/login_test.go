package stager

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/stage"
)

const canary = "c4n4ry-of-the-museum"

// mounted is a login with these files; what is nil is no file.
func mounted(t *testing.T, username, password *string) login {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]*string{"username": username, "password": password} {
		if content == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(*content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return login(dir)
}

// locked is a museum that wants to know who asks, and the password that it takes now.
func locked(t *testing.T, as login, say func(*http.Request) string) (*chartMuseum, *string) {
	t.Helper()
	takes := canary
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		username, password, _ := r.BasicAuth()
		switch {
		case username != "orkestra" || password != takes:
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, say(r))
		case r.Method == http.MethodPost:
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodDelete:
		default:
			fmt.Fprint(w, "apiVersion: v1\nentries: {}\n")
		}
	}))
	t.Cleanup(s.Close)
	m, err := newMuseum(s.URL, as)
	if err != nil {
		t.Fatal(err)
	}
	return m, &takes
}

func unauthorized(*http.Request) string { return `{"error":"unauthorized"}` }

// all that is asked of a museum.
func all(t *testing.T, m *chartMuseum) map[string]error {
	t.Helper()
	_, read := m.Held(t.Context(), "group")
	_, push := m.Push(t.Context(), "group", stage.Piece{Chart: "web", Version: "1.0.0", Digest: archive.Digest([]byte("a")), Archive: []byte("a")})
	return map[string]error{"read": read, "push": push, "removal": m.Remove(t.Context(), "group", museumChart{"web", "1.0.0"})}
}

func TestLogin(t *testing.T) {
	as := mounted(t, new("orkestra"), new(canary))
	m, takes := locked(t, as, unauthorized)
	for what, err := range all(t, m) {
		if err != nil {
			t.Errorf("a %s shows who asks: %v", what, err)
		}
	}
	*takes = "another-password"
	for what, err := range all(t, m) {
		if refusal.Reason(err) != v1alpha1.ReasonStagingUnavailable || !strings.Contains(fmt.Sprint(err), "--staging-credentials") {
			t.Errorf("a %s with a password that is no longer taken says where it comes from: %v", what, err)
		}
	}
	if err := os.WriteFile(filepath.Join(string(as), "password"), []byte(*takes), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, err := range all(t, m) {
		if err != nil {
			t.Errorf("a %s goes by the password that is there now: %v", what, err)
		}
	}
}

func TestNoLogin(t *testing.T) {
	m, _ := locked(t, "", unauthorized)
	for what, err := range all(t, m) {
		if refusal.Reason(err) != v1alpha1.ReasonStagingUnavailable || !strings.Contains(fmt.Sprint(err), "it wants a username and a password, see --staging-credentials") {
			t.Errorf("a %s says what is missing: %v", what, err)
		}
	}
}

func TestLoginRefused(t *testing.T) {
	for name, c := range map[string]struct {
		username, password *string
		say                string
	}{
		"Missing":   {new("orkestra"), nil, "no such file"},
		"Empty":     {new(""), new(canary), "the file username"},
		"LineBreak": {new("orkestra"), new(canary + "\n"), "line break"},
		"Colon":     {new("or:kestra"), new(canary), "colon"},
	} {
		t.Run(name, func(t *testing.T) {
			as := mounted(t, c.username, c.password)
			_, _, err := as.read()
			if refusal.Reason(err) != v1alpha1.ReasonStagingUnavailable || !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), canary) {
				t.Errorf("got %v, want it to say %q", err, c.say)
			}
			m, _ := locked(t, as, func(*http.Request) string { return "" })
			for what, err := range all(t, m) {
				if err == nil || !strings.Contains(err.Error(), c.say) {
					t.Errorf("a %s without a whole login is not begun: %v", what, err)
				}
			}
		})
	}
}

// What was shown to the museum is not told, also where that, or what is before it, repeats it.
func TestLoginIsNotTold(t *testing.T) {
	for name, say := range map[string]func(*http.Request) string{
		"Password": func(*http.Request) string { return `{"error":"no ` + canary + `"}` },
		"Header":   func(r *http.Request) string { return `{"error":"` + r.Header.Get("Authorization") + `"}` },
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusForbidden)
				_, err := io.WriteString(w, say(r))
				if err != nil {
					t.Error(err)
				}
			}))
			t.Cleanup(s.Close)
			m, err := newMuseum(s.URL, mounted(t, new("orkestra"), new(canary)))
			if err != nil {
				t.Fatal(err)
			}
			for what, err := range all(t, m) {
				if refusal.Reason(err) != v1alpha1.ReasonStagingUnavailable || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "repeats the credentials") {
					t.Errorf("a %s: %v", what, err)
				}
			}
		})
	}
}

// The password of the staging repository goes to no other host, whatever a group names.
func TestGuard(t *testing.T) {
	g := guard{
		login:  mounted(t, new("orkestra"), new(canary)),
		secret: client.ObjectKey{Namespace: "orkestra", Name: "museum"}, host: "museum:8080",
	}
	secret := func(namespace, name, username, password string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Data: map[string][]byte{"username": []byte(username), "password": []byte(password)}}
	}
	for name, c := range map[string]struct {
		promise, url string
		secret       *corev1.Secret
		refused      bool
	}{
		"Another": {"the credentials of a registry go there", "https://charts.example.org", secret("apps", "museum", "u", "p"), false},
		"Own":     {"charts may come from the museum itself", "http://museum:8080/examples", secret("orkestra", "museum", "orkestra", canary), false},
		"Named":   {"the Secret goes nowhere else, whatever is in it", "https://charts.example.org", secret("orkestra", "museum", "u", "p"), true},
		"Copied":  {"nor does a copy", "https://charts.example.org", secret("apps", "copy", "orkestra", canary), true},
		"Port":    {"nor to another port", "http://museum:9090/examples", secret("orkestra", "museum", "orkestra", canary), true},
		"Inside":  {"nor to who has the host in a name", "http://museum:8080@charts.example.org", secret("orkestra", "museum", "orkestra", canary), true},
	} {
		err := g.check(c.url, c.secret)
		if c.refused != (refusal.Reason(err) == v1alpha1.ReasonAuthenticationFailed) || !c.refused && err != nil || err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %s: %v", name, c.promise, err)
		}
	}
}
