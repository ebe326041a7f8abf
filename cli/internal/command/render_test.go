package command

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const valuesFrom = `---
apiVersion: v1
kind: ConfigMap
metadata: {name: web-values, namespace: shop}
data:
  values.yaml: "metrics: {enabled: false}"
---
apiVersion: v1
kind: Secret
metadata: {name: web-password, namespace: shop}
stringData: {password: hunter2}
`

// withValuesFrom is the group of shop whose web takes values from elsewhere.
func withValuesFrom(url string) string {
	return strings.Replace(shop(url), "values: {api: {canary: 1}}", `values: {api: {canary: 1}}, valuesFrom: [
            {kind: ConfigMap, name: web-values}, {kind: Secret, name: web-password, valuesKey: password, targetPath: db.password}]`, 1)
}

func TestRenderValuesFrom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	code, _, errs := run(t, withValuesFrom(repository(t, ""))+valuesFrom, "render", "-f", "-", "--out", dir)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var releases []string
	sees := map[string]bool{}
	for name, text := range contents(t, dir) {
		switch {
		case strings.HasPrefix(name, releasesFolder):
			releases = append(releases, name)
		case strings.HasPrefix(name, valuesFolder):
			var secret corev1.Secret
			if err := yaml.Unmarshal([]byte(text), &secret); err != nil {
				t.Fatal(err)
			}
			for _, data := range secret.Data {
				sees[name] = sees[name] || bytes.Contains(data, []byte("hunter2"))
			}
			continue
		}
		if strings.Contains(text, "hunter2") {
			t.Errorf("what a Secret holds is in %s", name)
		}
	}
	slices.Sort(releases)
	if diff := cmp.Diff([]string{"releases/mesh.yaml", "releases/web-api.yaml", "releases/web-db.yaml", "releases/web.yaml"}, releases); diff != "" {
		t.Errorf("what a ConfigMap disables is not released (-want +got):\n%s", diff)
	}
	want := map[string]bool{"values/web.yaml": true, "values/web-db.yaml": true, "values/web-api.yaml": false}
	for name, sees := range sees {
		if sees != want[name] {
			t.Errorf("%s holds the password of db: %t", name, sees)
		}
	}
	if len(sees) < len(want) {
		t.Errorf("values of %d releases, want %d at least", len(sees), len(want))
	}
}

func TestRenderValuesFromNowhere(t *testing.T) {
	code, _, errs := run(t, withValuesFrom(repository(t, ""))+strings.Replace(valuesFrom, "web-password", "another", 1), "render", "-f", "-")
	for _, want := range []string{"application web", "Secret", "shop/web-password", "-f"} {
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("a Secret that is not among the files is asked for, exit code %d; %q is not in %s", code, want, errs)
		}
	}
	code, _, errs = run(t, withValuesFrom(repository(t, ""))+strings.Replace(valuesFrom, "values.yaml: \"metrics: {enabled: false}\"", "values.yaml: [1]", 1), "render", "-f", "-")
	if code != 1 || !strings.Contains(errs, "ConfigMap") {
		t.Errorf("a ConfigMap that cannot be read is named: exit code %d, %s", code, errs)
	}
}

func TestVerifySplitSaysWhatItCannotCompare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web-1.0.0.tgz")
	chart := packed(t, "web", map[string]string{
		"Chart.yaml":                 "{apiVersion: v2, name: web, version: 1.0.0}",
		"templates/web.yaml":         configMap("web") + "data: {fresh: \"{{ .Release.IsInstall }}\"}\n",
		"charts/db/Chart.yaml":       "{apiVersion: v2, name: db, version: 0.1.0}",
		"charts/db/templates/a.yaml": "{{ $_ := lookup \"v1\" \"Secret\" \"\" \"a\" }}" + configMap("db") + "data: {password: {{ randAlphaNum 8 }}}\n",
	})
	if err := os.WriteFile(path, chart, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := run(t, "", "verify-split", path)
	for _, want := range []string{
		"2 objects whole, 2 in 2 pieces", "different each time: ConfigMap release-db",
		"not compared: lookup", "not compared: randAlphaNum", "not compared: .Release.IsInstall", "(charts/db/templates/a.yaml)",
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d: %q is not in\n%s%s", code, want, out, errs)
		}
	}
}
