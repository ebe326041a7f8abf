package bundle_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/google/go-cmp/cmp"
	ociregistry "github.com/google/go-containerregistry/pkg/registry"
	"helm.sh/helm/v3/pkg/provenance"
	helmregistry "helm.sh/helm/v3/pkg/registry"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/bundle"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/registry"
)

func packed(t *testing.T, name, version, template string) []byte {
	t.Helper()
	data, err := archive.Write(name, []archive.File{
		{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: " + name + "\nversion: " + version + "\ndescription: of " + name + "\n")},
		{Name: "templates/a.yaml", Data: []byte(template)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func chart(url, name, version string) v1alpha1.ChartRef {
	return v1alpha1.ChartRef{URL: url, Name: name, Version: version}
}

func group(name string, charts ...v1alpha1.ChartRef) *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{}
	g.Name = name
	for i, c := range charts {
		app := v1alpha1.Application{DAG: v1alpha1.DAG{Name: fmt.Sprintf("app%d", i)}}
		app.Spec.Chart, app.Spec.Release.TargetNamespace = c, "shop"
		g.Spec.Applications = append(g.Spec.Applications, app)
	}
	g.SetDefaults()
	return g
}

func request(g *v1alpha1.ApplicationGroup) bundle.Request {
	r := bundle.Request{Group: g, Keys: make([]map[string][]byte, len(g.Spec.Applications))}
	for i := range g.Spec.Applications {
		r.Refs = append(r.Refs, registry.RefOf(&g.Spec.Applications[i]))
	}
	return r
}

func newRegistry() registry.Registry { return registry.New(registry.Options{AllowPrivate: true}) }

// said is what the user is told.
type said []string

func (s *said) say(format string, args ...any) { *s = append(*s, fmt.Sprintf(format, args...)) }

func save(t *testing.T, requests ...bundle.Request) (string, said) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bundle.tgz")
	var s said
	if _, err := bundle.Save(context.Background(), path, requests, newRegistry(), s.say); err != nil {
		t.Fatal(err)
	}
	return path, s
}

func load(t *testing.T, path string, to bundle.Target) ([]*v1alpha1.ApplicationGroup, said, error) {
	t.Helper()
	b, err := bundle.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var s said
	groups, err := b.Load(context.Background(), to, newRegistry(), bundle.LoadOptions{}, s.say)
	return groups, s, err
}

// quick to make is a key of Ed25519.
var quick = &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA}

// stock is what the tests' repository has: a chart signed by its key among others.
func stock(t *testing.T) (m *museum, key *openpgp.Entity) {
	t.Helper()
	m = newMuseum(t, map[string][]byte{
		"web-1.0.0.tgz":         packed(t, "web", "1.0.0", "a: 1"),
		"web-1.1.0.tgz":         packed(t, "web", "1.1.0", "a: 2"),
		"mesh-2.0.0+build1.tgz": packed(t, "mesh", "2.0.0+build1", "a: 3"),
	})
	key, err := openpgp.NewEntity("alice", "", "alice@example.com", quick)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "web-1.1.0.tgz")
	if err := os.WriteFile(file, m.files["web-1.1.0.tgz"], 0o600); err != nil {
		t.Fatal(err)
	}
	prov, err := (&provenance.Signatory{Entity: key}).ClearSign(file)
	if err != nil {
		t.Fatal(err)
	}
	m.files["web-1.1.0.tgz.prov"] = []byte(prov)
	return m, key
}

func proven(c v1alpha1.ChartRef) v1alpha1.ChartRef {
	c.Verify = &v1alpha1.ChartVerification{Provider: v1alpha1.VerifyProvenance}
	c.Verify.SecretRef.Name = "keys"
	return c
}

func keysOf(t *testing.T, key *openpgp.Entity) map[string][]byte {
	t.Helper()
	var b strings.Builder
	if err := key.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"alice.gpg": []byte(b.String())}
}

func TestRoundTrip(t *testing.T) {
	from, key := stock(t)
	one := request(group("one", proven(chart(from.URL, "web", "1.x")), chart(from.URL, "mesh", "")))
	one.Keys[0] = keysOf(t, key)
	two := request(group("two", chart(from.URL, "web", "1.0.0"), chart(from.URL, "web", ">=1.1")))
	path, told := save(t, two, one)
	if joined := strings.Join(told, "\n"); strings.Contains(joined, "warning") || !strings.Contains(joined, "fetched mesh 2.0.0+build1") {
		t.Errorf("the user is told what is fetched: %s", joined)
	}

	museum := newMuseum(t, map[string][]byte{})
	ociURL, puts := oci(t)
	for name, c := range map[string]struct {
		url    string
		writes func() int
		want   int
	}{
		"ChartMuseum": {museum.URL, func() int { return len(museum.uploads) }, 4},
		"OCI":         {ociURL, puts, 3},
	} {
		t.Run(name, func(t *testing.T) {
			groups, _, err := load(t, path, bundle.Target{URL: c.url + "/"})
			if err != nil {
				t.Fatal(err)
			}
			if c.writes() != c.want {
				t.Errorf("want %d files or tags pushed, got %d", c.want, c.writes())
			}
			again := newRegistry()
			var got []string
			for _, g := range groups {
				for i := range g.Spec.Applications {
					app := &g.Spec.Applications[i]
					found, err := again.Resolve(context.Background(), registry.RefOf(app))
					if err != nil {
						t.Fatal(err)
					}
					data, err := again.Fetch(context.Background(), found)
					if err != nil {
						t.Fatal(err)
					}
					if archive.Digest(data) != archive.Digest(from.files[found.Name+"-"+found.Version+".tgz"]) {
						t.Errorf("chart %s %s is not what it was", found.Name, found.Version)
					}
					if app.Spec.Chart.URL != c.url || app.Spec.Chart.Digest != archive.Digest(data) {
						t.Errorf("%s of %s is pinned to %s at %s", app.Name, g.Name, app.Spec.Chart.Digest, app.Spec.Chart.URL)
					}
					if app.Spec.Chart.Verify != nil {
						prov, err := again.Provenance(context.Background(), found)
						if err != nil || string(prov) != string(from.files["web-1.1.0.tgz.prov"]) {
							t.Errorf("the provenance is not what it was: %v", err)
						}
					}
					got = append(got, g.Name+" "+app.Name+" "+app.Spec.Chart.Name+" "+app.Spec.Chart.Version)
				}
			}
			want := []string{"one app0 web 1.1.0", "one app1 mesh 2.0.0+build1", "two app0 web 1.0.0", "two app1 web 1.1.0"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("versions are exact (-want +got):\n%s", diff)
			}
			before := c.writes()
			if _, told, err := load(t, path, bundle.Target{URL: c.url}); err != nil || c.writes() != before {
				t.Errorf("to load again is to change nothing: %d writes more, %v, %v", c.writes()-before, told, err)
			}
		})
	}

	client, err := helmregistry.NewClient(helmregistry.ClientOptPlainHTTP())
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := client.Pull(strings.TrimPrefix(ociURL, "oci://")+"/web:1.1.0", helmregistry.PullOptWithProv(true))
	if err != nil {
		t.Fatal(err)
	}
	if archive.Digest(pulled.Chart.Data) != archive.Digest(from.files["web-1.1.0.tgz"]) || string(pulled.Prov.Data) != string(from.files["web-1.1.0.tgz.prov"]) {
		t.Error("Helm itself can pull what was loaded")
	}
}

func TestSaveIsReproducible(t *testing.T) {
	from, _ := stock(t)
	a := request(group("a-b", chart(from.URL, "web", "1.x"), chart(from.URL, "mesh", "")))
	b := request(group("a", chart(from.URL, "web", "")))
	one, _ := save(t, a, b)
	two, _ := save(t, b, a)
	if digest(t, one) != digest(t, two) {
		t.Error("the same groups in another order are another bundle")
	}
}

func digest(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return archive.Digest(data)
}

func TestSaveVerifies(t *testing.T) {
	from, _ := stock(t)
	mallory, err := openpgp.NewEntity("mallory", "", "m@example.com", quick)
	if err != nil {
		t.Fatal(err)
	}
	r := request(group("g", proven(chart(from.URL, "web", "1.1.0"))))
	r.Keys[0] = keysOf(t, mallory)
	path := filepath.Join(t.TempDir(), "bundle.tgz")
	var told said
	_, err = bundle.Save(context.Background(), path, []bundle.Request{r}, newRegistry(), told.say)
	if err == nil || !strings.Contains(err.Error(), "signed with another key") || !strings.Contains(err.Error(), "group g, application app0") {
		t.Errorf("a chart that is not proved is not saved: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("half a bundle is there")
	}
	r.Keys[0] = nil
	if _, told := save(t, r); !strings.Contains(strings.Join(told, "\n"), "is not verified") {
		t.Errorf("the user is told that a chart was not verified: %v", told)
	}
	r = request(group("g", proven(chart(from.URL, "web", "1.0.0"))))
	_, err = bundle.Save(context.Background(), path, []bundle.Request{r}, newRegistry(), told.say)
	if err == nil || !strings.Contains(err.Error(), "no provenance") {
		t.Errorf("a chart without the proof that is asked for is not saved: %v", err)
	}
}

func TestSaveKeepsNoSecret(t *testing.T) {
	const canary = "c4n4ry"
	from, _ := stock(t)
	from.password = canary
	g := group("g", chart(strings.Replace(from.URL, "http://", "http://me:"+canary+"@", 1)+"?token="+canary, "web", "1.0.0"))
	g.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": canary}
	r := request(g)
	var err error
	if r.Refs[0].Credentials, err = registry.CredentialsOf(map[string][]byte{"username": []byte("me"), "password": []byte(canary)}); err != nil {
		t.Fatal(err)
	}
	path, told := save(t, r)
	for _, e := range entries(t, path) {
		if strings.Contains(string(e.data), canary) {
			t.Errorf("%s holds the password", e.header.Name)
		}
	}
	if strings.Contains(strings.Join(told, ""), canary) {
		t.Errorf("the user is shown the password: %s", told)
	}
}

func TestLoadOverwritesNothing(t *testing.T) {
	from, _ := stock(t)
	path, _ := save(t, request(group("g", chart(from.URL, "mesh", ""), chart(from.URL, "web", "1.0.0"))))
	to := newMuseum(t, map[string][]byte{"web-1.0.0.tgz": packed(t, "web", "1.0.0", "of another")})
	_, _, err := load(t, path, bundle.Target{URL: to.URL})
	if err == nil || !strings.Contains(err.Error(), "chart web 1.0.0 is there with digest") || len(to.uploads) > 0 {
		t.Errorf("where one is there with another digest nothing is pushed: %v, %v", err, to.uploads)
	}

	ociURL, puts := oci(t)
	other := newMuseum(t, map[string][]byte{"web-1.0.0.tgz": packed(t, "web", "1.0.0", "of another")})
	theirs, _ := save(t, request(group("g", chart(other.URL, "web", "1.0.0"))))
	if _, _, err := load(t, theirs, bundle.Target{URL: ociURL}); err != nil {
		t.Fatal(err)
	}
	before := puts()
	if _, _, err := load(t, path, bundle.Target{URL: ociURL}); err == nil || !strings.Contains(err.Error(), "is there with digest") || puts() != before {
		t.Errorf("a tag is not moved: %v", err)
	}

	both, _ := save(t, request(group("g", chart(from.URL, "web", "1.0.0"), chart(other.URL, "web", "1.0.0"))))
	if _, _, err := load(t, both, bundle.Target{URL: newMuseum(t, map[string][]byte{}).URL}); err == nil || !strings.Contains(err.Error(), "they differ") {
		t.Errorf("two charts of one name and version do not fit one repository: %v", err)
	}
}

func TestLoadProvenanceLater(t *testing.T) {
	from, _ := stock(t)
	plain, _ := save(t, request(group("g", chart(from.URL, "web", "1.1.0"))))
	signed, _ := save(t, request(group("g", proven(chart(from.URL, "web", "1.1.0")))))
	to := newMuseum(t, map[string][]byte{})
	for _, path := range []string{plain, signed, signed} {
		if _, _, err := load(t, path, bundle.Target{URL: to.URL}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"web-1.1.0.tgz", "web-1.1.0.tgz.prov"}, to.uploads); diff != "" {
		t.Errorf("a provenance may follow its chart (-want +got):\n%s", diff)
	}
	to.files["web-1.1.0.tgz.prov"] = []byte("of another")
	if _, _, err := load(t, signed, bundle.Target{URL: to.URL}); err == nil || !strings.Contains(err.Error(), "another provenance") {
		t.Errorf("a provenance is not overwritten: %v", err)
	}
	ociURL, _ := oci(t)
	if _, _, err := load(t, plain, bundle.Target{URL: ociURL}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := load(t, signed, bundle.Target{URL: ociURL}); err == nil || !strings.Contains(err.Error(), "without this provenance") {
		t.Errorf("a manifest is not changed: %v", err)
	}
}

func TestLoadAfterAFault(t *testing.T) {
	from, _ := stock(t)
	path, _ := save(t, request(group("g", chart(from.URL, "mesh", ""), chart(from.URL, "web", "1.0.0"), chart(from.URL, "web", "1.1.0"))))
	to := newMuseum(t, map[string][]byte{})
	to.broken = 2
	if _, _, err := load(t, path, bundle.Target{URL: to.URL}); err == nil || !strings.Contains(err.Error(), "507") || !strings.Contains(err.Error(), "the disk is full") {
		t.Fatalf("the museum's own words are told: %v", err)
	}
	if len(to.uploads) != 1 {
		t.Fatalf("want one upload before the fault, got %v", to.uploads)
	}
	if _, _, err := load(t, path, bundle.Target{URL: to.URL}); err != nil || len(to.uploads) != 3 {
		t.Errorf("what was interrupted is ended by doing it again: %v, %v", to.uploads, err)
	}
}

func TestLoadNeedsALogin(t *testing.T) {
	from, _ := stock(t)
	path, _ := save(t, request(group("g", chart(from.URL, "web", "1.0.0"))))
	to := newMuseum(t, map[string][]byte{})
	to.password = "secret"
	if _, _, err := load(t, path, bundle.Target{URL: to.URL}); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("the repository asks who we are: %v", err)
	}
	login := bundle.Login{Username: "me", Password: "secret"}
	var err error
	if login.Credentials, err = registry.CredentialsOf(map[string][]byte{"username": []byte("me"), "password": []byte("secret")}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := load(t, path, bundle.Target{URL: to.URL, Login: login}); err != nil || len(to.uploads) != 1 {
		t.Errorf("and is told: %v", err)
	}
}

// TestLoadOverTLS: a registry with a CA of its own, which asks for a certificate and a
// password.
func TestLoadOverTLS(t *testing.T) {
	from, _ := stock(t)
	path, _ := save(t, request(group("g", chart(from.URL, "web", "1.0.0"))))
	inner := ociregistry.New(ociregistry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "secret" || len(r.TLS.PeerCertificates) == 0 {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	url := "oci://" + s.Listener.Addr().String() + "/charts"

	// The test server's own certificate serves as the client's too.
	pair := s.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	login := bundle.Login{Username: "me", Password: "secret", TLS: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: x509.NewCertPool()}}
	login.TLS.RootCAs.AddCert(s.Certificate())
	login.Credentials, err = registry.CredentialsOf(map[string][]byte{
		"username": []byte("me"), "password": []byte("secret"),
		"ca.crt": certificate, "tls.crt": certificate, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	})
	if err != nil {
		t.Fatal(err)
	}
	groups, _, err := load(t, path, bundle.Target{URL: url, Login: login})
	if err != nil {
		t.Fatal(err)
	}
	ref := registry.RefOf(&groups[0].Spec.Applications[0])
	ref.Credentials = login.Credentials
	if _, err := newRegistry().Resolve(context.Background(), ref); err != nil {
		t.Errorf("what was loaded is there: %v", err)
	}
	if _, _, err := load(t, path, bundle.Target{URL: url}); err == nil {
		t.Error("who does not trust the CA loads nothing")
	}
}

func TestLoadOfCosign(t *testing.T) {
	from, _ := stock(t)
	c := proven(chart(from.URL, "web", "1.0.0"))
	c.Verify.Provider = v1alpha1.VerifyCosign
	// Nobody could have saved it from this repository, but from an OCI registry.
	path, _ := save(t, request(group("g", chart(from.URL, "web", "1.0.0"))))
	path = rewrite(t, path, func(es []entry) []entry {
		g := group("g", c)
		g.Spec.Applications[0].Spec.Chart.URL = "oci://registry.example.com/charts"
		return reindex(t, es, "groups/g.yaml", manifestOf(t, g))
	})
	if _, _, err := load(t, path, bundle.Target{URL: from.URL}); err == nil || !strings.Contains(err.Error(), "in OCI registries only") {
		t.Errorf("a group that could never be staged is refused: %v", err)
	}
	ociURL, _ := oci(t)
	if _, _, err := load(t, path, bundle.Target{URL: ociURL}); err == nil || !strings.Contains(err.Error(), "there is none in the bundle") {
		t.Errorf("so is one without the signatures that it asks for: %v", err)
	}
}

func manifestOf(t *testing.T, g *v1alpha1.ApplicationGroup) []byte {
	t.Helper()
	data, err := bundle.Manifest(g)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// reindex puts other bytes into a file, and what becomes of them into the index.
func reindex(t *testing.T, es []entry, path string, data []byte) []entry {
	t.Helper()
	for i := range es {
		if es[i].header.Name == path {
			es[i].data, es[i].header.Size = data, int64(len(data))
		}
	}
	var index map[string]any
	if err := json.Unmarshal(es[0].data, &index); err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"groups", "charts"} {
		for _, item := range index[list].([]any) {
			if f := item.(map[string]any); f["file"] == path {
				f["digest"], f["size"] = archive.Digest(data), len(data)
			}
		}
	}
	return withIndex(t, es, index)
}

func withIndex(t *testing.T, es []entry, index any) []entry {
	t.Helper()
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	es[0].data, es[0].header.Size = raw, int64(len(raw))
	return es
}
