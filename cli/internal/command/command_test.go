package command

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/services/compiler/compile"
)

// run a command line, and give its exit code and what it wrote.
func run(t *testing.T, stdin string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Main(append([]string{"orkestra"}, args...), Streams{In: strings.NewReader(stdin), Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// packed is a chart's archive.
func packed(t *testing.T, name string, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if err := w.WriteHeader(&tar.Header{Name: name + "/" + n, Mode: 0o644, Size: int64(len(files[n]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[n])); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []interface{ Close() error }{w, z} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-" + name + "\n"
}

// web is a chart with the subcharts api, db and metrics, of which the last has a
// condition.
func web(t *testing.T) []byte {
	t.Helper()
	return packed(t, "web", map[string]string{
		"Chart.yaml": `{apiVersion: v2, name: web, version: 1.0.0, dependencies: [
			{name: api, version: 0.1.0}, {name: db, version: 0.1.0}, {name: metrics, version: 0.1.0, condition: metrics.enabled}]}`,
		"templates/web.yaml":                    configMap("web"),
		"charts/api/Chart.yaml":                 "{apiVersion: v2, name: api, version: 0.1.0}",
		"charts/api/templates/api.yaml":         configMap("api"),
		"charts/db/Chart.yaml":                  "{apiVersion: v2, name: db, version: 0.1.0}",
		"charts/db/templates/db.yaml":           configMap("db"),
		"charts/metrics/Chart.yaml":             "{apiVersion: v2, name: metrics, version: 0.1.0}",
		"charts/metrics/templates/metrics.yaml": configMap("metrics"),
	})
}

// repository serves charts, to those who know the password where there is one.
func repository(t *testing.T, password string) string {
	t.Helper()
	charts := map[string][]byte{
		"web-1.0.0.tgz": web(t),
		"mesh-2.0.0.tgz": packed(t, "mesh", map[string]string{
			"Chart.yaml": "{apiVersion: v2, name: mesh, version: 2.0.0}", "templates/mesh.yaml": configMap("mesh"),
		}),
	}
	index := "apiVersion: v1\nentries:\n"
	for _, file := range []string{"mesh-2.0.0.tgz", "web-1.0.0.tgz"} {
		name, version, _ := strings.Cut(strings.TrimSuffix(file, ".tgz"), "-")
		sum := sha256.Sum256(charts[file])
		index += fmt.Sprintf("  %s: [{apiVersion: v2, name: %s, version: %s, urls: [%s], digest: %s}]\n", name, name, version, file, hex.EncodeToString(sum[:]))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		data := charts[filepath.Base(r.URL.Path)]
		if r.URL.Path == "/index.yaml" {
			data = []byte(index)
		}
		if data == nil {
			http.NotFound(w, r)
			return
		}
		if _, err := w.Write(data); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// shop is a group of web after mesh.
func shop(url string) string {
	return fmt.Sprintf(`apiVersion: orkestra.azure.microsoft.com/v1alpha1
kind: ApplicationGroup
metadata:
  name: shop
spec:
  applications:
    - name: web
      dependencies: [mesh]
      spec:
        chart: {url: %[1]q, name: web, version: 1.x}
        subcharts:
          - {name: api, dependencies: [db]}
          - {name: db}
        release: {targetNamespace: shop, values: {api: {canary: 1}}}
    - name: mesh
      spec:
        chart: {url: %[1]q, name: mesh}
        release: {targetNamespace: mesh}
`, url)
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "group.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLint(t *testing.T) {
	good := shop("https://charts.example.com")
	cases := map[string]struct {
		reason string
		text   string
		code   int
		out    string
		errs   []string
	}{
		"Good": {reason: "a group with which nothing is wrong", text: good, out: "shop: 2 applications, 4 releases in the spec\n"},
		"Wrong": {
			reason: "what does not fit together is named with its line",
			text:   strings.Replace(good, "dependencies: [mesh]", "dependencies: [mash]", 1), code: 1,
			errs: []string{`stdin:8: spec.applications[0].dependencies[0]: Invalid value: "mash"`},
		},
		"Unreadable": {
			reason: "what cannot be read is named with its line, and so is what is wrong with the others",
			text:   strings.Replace(good, "targetNamespace: mesh", "targetNamespace: {}", 1) + "---\n" + strings.Replace(good, "[db]", "[bd]", 1), code: 1,
			errs: []string{"stdin:18: spec.applications[1].spec.release.targetNamespace: is an object", "stdin:31: spec.applications[0].spec.subcharts[0].dependencies[0]"},
		},
		"Expression": {
			reason: "an expression that cannot hold is found before there is an object",
			text:   strings.Replace(good, "targetNamespace: mesh", "targetNamespace: mesh, readyExpr: 'self.status.'", 1), code: 1,
			errs: []string{"stdin:18: spec.applications[1].spec.release.readyExpr"},
		},
		"Twice": {
			reason: "the second would replace the first", text: good + "---\n" + good, code: 1,
			errs: []string{`stdin:23: metadata.name: "shop"`},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			code, out, errs := run(t, tc.text, "lint", "-f", "-")
			if code != tc.code || out != tc.out {
				t.Errorf("%s: exit code %d, want %d; output %q, want %q; errors:\n%s", tc.reason, code, tc.code, out, tc.out, errs)
			}
			for _, want := range tc.errs {
				if !strings.Contains(errs, want) {
					t.Errorf("%s: %q is not in\n%s", tc.reason, want, errs)
				}
			}
		})
	}
}

func TestGraph(t *testing.T) {
	file := write(t, shop(repository(t, "")))
	code, out, errs := run(t, "", "graph", "-f", file, "--type", "reverse")
	if want := "shop (reverse)\n  web\n    web\n    web-api  after web\n    web-db   after web, web-api\n  mesh  after web\n    mesh\n"; code != 0 || out != want {
		t.Errorf("exit code %d, errors %q (-want +got):\n%s", code, errs, cmp.Diff(want, out))
	}
	code, out, errs = run(t, "", "graph", "-f", file, "--fetch", "-o", "json")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var g compile.GroupGraph
	if err := json.Unmarshal([]byte(out), &g); err != nil {
		t.Fatal(err)
	}
	var charts []string
	for _, r := range g.Applications[1].Releases {
		charts = append(charts, r.Chart)
	}
	if diff := cmp.Diff([]string{"web", "web-api", "web-db", "web-metrics"}, charts); diff != "" {
		t.Errorf("with the charts, the subcharts that the spec does not name are there (-want +got):\n%s", diff)
	}
}

// contents of the files of a folder, by path.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		out[filepath.ToSlash(rel)] = string(data)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRender(t *testing.T) {
	file := write(t, shop(repository(t, "")))
	first, second := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "out")
	for _, dir := range []string{first, second} {
		if code, _, errs := run(t, "", "render", "-f", file, "--out", dir); code != 0 {
			t.Fatalf("exit code %d: %s", code, errs)
		}
	}
	got := contents(t, first)
	if diff := cmp.Diff(got, contents(t, second)); diff != "" {
		t.Errorf("the same input gives the same files:\n%s", diff)
	}
	var names []string
	for name := range got {
		if strings.HasPrefix(name, sourcesFolder) {
			i := strings.LastIndex(name, "-")
			if i < 0 {
				i = len(name) - len(".yaml")
			}
			name = name[:i] // what follows is a hash
		}
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{
		"charts/mesh-2.0.0.tgz", "charts/web-1.0.0.tgz", "charts/web-api-1.0.0.tgz", "charts/web-db-1.0.0.tgz", "charts/web-metrics-1.0.0.tgz",
		"releases/mesh.yaml", "releases/web-api.yaml", "releases/web-db.yaml", "releases/web-metrics.yaml", "releases/web.yaml",
		"sources/shop", "sources/shop-mesh", "sources/shop-web", "sources/shop-web-api", "sources/shop-web-db", "sources/shop-web-metrics",
		"workflow.yaml",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, text := range got {
		sees := name == "releases/web.yaml" || name == "releases/web-api.yaml"
		if has := strings.Contains(text, "canary"); has != sees {
			t.Errorf("values are in the releases that can see them and nowhere else; %s: %t", name, has)
		}
	}
	code, _, errs := run(t, "", "render", "-f", file, "--out", first)
	if code != 1 || !strings.Contains(errs, "not empty") {
		t.Errorf("a folder with something in it is left alone: exit code %d, %s", code, errs)
	}
	if code, _, errs = run(t, "", "render", "-f", file, "--out", first, "--force"); code != 0 {
		t.Errorf("unless that is asked for: %s", errs)
	}
	code, out, errs := run(t, "", "render", "-f", file)
	if code != 0 || strings.Count(out, "\n---\n")+1 != len(want)-5 || !strings.HasPrefix(out, "---\n# workflow.yaml\n") {
		t.Errorf("without a folder the objects are printed: exit code %d, %s\n%s", code, errs, out)
	}
}

func TestRenderFails(t *testing.T) {
	url := repository(t, "")
	locked := repository(t, "hunter2")
	secret := "---\napiVersion: v1\nkind: Secret\nmetadata: {name: registry, namespace: default}\nstringData: {username: me, password: hunter2}\n"
	asking := strings.ReplaceAll(shop(locked), "name: mesh}", "name: mesh, authSecretRef: {name: registry}}")
	asking = strings.ReplaceAll(asking, "version: 1.x}", "version: 1.x, authSecretRef: {name: registry}}")
	cases := map[string]struct {
		reason string
		text   string
		code   int
		errs   []string
	}{
		"NoVersion":  {"the versions that there are are named", strings.Replace(shop(url), "1.x", "2.x", 1), 1, []string{"application web", `"2.x"`, "1.0.0"}},
		"NoSubchart": {"the subcharts that there are are named", strings.ReplaceAll(shop(url), "db", "cache"), 1, []string{"application web", "cache", "api, db, metrics"}},
		"Disabled":   {"a subchart that the values disable is a warning", strings.Replace(strings.Replace(shop(url), "{name: db}", "{name: db}\n          - {name: metrics}", 1), "values: {", "values: {metrics: {enabled: false}, ", 1), 0, []string{"warning: application web: subchart metrics"}},
		"NoSecret":   {"a Secret that is not among the files is asked for", asking, 1, []string{"Secret default/registry", "-f"}},
		"Secret":     {"and used where it is", asking + secret, 0, nil},
		"WrongSecret": {"a password that is refused is not printed", asking + strings.Replace(secret, "hunter2", "hunter3", 1), 1,
			[]string{"application web", "application mesh"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			code, _, errs := run(t, tc.text, "render", "-f", "-")
			if code != tc.code || strings.Contains(errs, "hunter") {
				t.Errorf("%s: exit code %d, want %d:\n%s", tc.reason, code, tc.code, errs)
			}
			for _, want := range tc.errs {
				if !strings.Contains(errs, want) {
					t.Errorf("%s: %q is not in\n%s", tc.reason, want, errs)
				}
			}
		})
	}
}

func TestVerifySplit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web-1.0.0.tgz")
	if err := os.WriteFile(path, web(t), 0o600); err != nil {
		t.Fatal(err)
	}
	values := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(values, []byte("metrics: {enabled: false}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := run(t, "", "verify-split", path)
	if code != 0 || !strings.Contains(out, "4 objects whole, 4 in 4 pieces") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	code, out, errs = run(t, "", "verify-split", path, "--values", values, "--subcharts", "db")
	if code != 0 || !strings.Contains(out, "3 objects whole, 3 in 3 pieces") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if code, _, errs = run(t, "", "verify-split", path, "--subcharts", "cache"); code != 1 || !strings.Contains(errs, "cache") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

func TestUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"no file":         {"lint"},
		"unknown command": {"lnit"},
		"unknown flag":    {"graph", "--colour"},
		"unknown format":  {"graph", "-f", "x", "-o", "png"},
		"unknown type":    {"events", "--type", "group.wanted"},
		"no name":         {"history"},
		"no group":        {"diff"},
		"watch all":       {"status", "--watch"},
		"two at once":     {"diff", "shop", "-f", "x", "--revision", "1"},
		"unknown dry run": {"rollback", "shop", "--dry-run=maybe"},
		"unknown output":  {"history", "shop", "-o", "wide"},
	} {
		if code, _, errs := run(t, "", args...); code != 2 || !strings.Contains(errs, "--help") {
			t.Errorf("%s: exit code %d: %s", name, code, errs)
		}
	}
	if code, _, errs := run(t, "", "lint", "-f", filepath.Join(t.TempDir(), "none.yaml")); code != 1 || !strings.Contains(errs, "none.yaml") {
		t.Errorf("a file that is not there: exit code %d: %s", code, errs)
	}
}

// Every command explains itself, with examples that call the program as it was called.
func TestHelp(t *testing.T) {
	for _, program := range []string{"orkestra", "/usr/local/bin/kubectl-orkestra"} {
		root := New(program, Streams{})
		name := root.DisplayName()
		for _, cmd := range append(root.Commands(), root) {
			if cmd.Name() == "help" || cmd.Hidden {
				continue
			}
			if cmd.Short == "" || cmd.Example == "" {
				t.Errorf("%s does not explain itself", cmd.CommandPath())
			}
			for line := range strings.SplitSeq(cmd.Example, "\n") {
				if line = strings.TrimSpace(line); strings.HasPrefix(line, "orkestra ") && name != "orkestra" {
					t.Errorf("%s: %q is not how it was called", cmd.CommandPath(), line)
				}
			}
		}
	}
}
