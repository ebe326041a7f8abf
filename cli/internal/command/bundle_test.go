package command

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ociregistry "github.com/google/go-containerregistry/pkg/registry"

	"orkestra.dev/cli/internal/bundle"
)

// noCluster keeps the user's own cluster out of a test.
func noCluster(t *testing.T) {
	t.Helper()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
}

func TestBundle(t *testing.T) {
	noCluster(t)
	from := repository(t, "pass")
	s := httptest.NewServer(ociregistry.New(ociregistry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	to := "oci://" + strings.TrimPrefix(s.URL, "http://") + "/charts"
	dir := t.TempDir()
	group := write(t, withSecret(shop(from)))
	file, localized := filepath.Join(dir, "bundle.tgz"), filepath.Join(dir, "group.yaml")

	code, out, errs := run(t, "pass\n", "bundle", "save", "-f", group, "-o", file, "--username", "me", "--password-stdin")
	if code != 0 || out != "" || !strings.Contains(errs, "fetched web 1.0.0") || !strings.Contains(errs, "saved 1 group and 2 charts") {
		t.Fatalf("save: %d, %q, %q", code, out, errs)
	}
	code, out, errs = run(t, "", "bundle", "show", file)
	if code != 0 || errs != "" || !strings.Contains(out, "GROUP") || !strings.Contains(out, from) {
		t.Fatalf("show: %d, %q, %q", code, out, errs)
	}
	var x bundle.Index
	if _, out, _ = run(t, "", "bundle", "show", file, "-o", "json"); json.Unmarshal([]byte(out), &x) != nil || len(x.Charts) != 2 {
		t.Fatalf("show as JSON: %s", out)
	}
	code, out, errs = run(t, "", "bundle", "load", file, "--to", to, "--dry-run")
	if code != 0 || !strings.Contains(out, "url: "+to) || !strings.Contains(errs, "chart web 1.0.0") || !strings.Contains(errs, "would be pushed") {
		t.Fatalf("load --dry-run: %d, %q, %q", code, out, errs)
	}
	code, out, errs = run(t, "", "bundle", "load", file, "--to", to, "--auth-secret", "orkestra/charts", "-o", localized)
	if code != 0 || out != "" || !strings.Contains(errs, "pushed chart web 1.0.0") {
		t.Fatalf("load: %d, %q, %q", code, out, errs)
	}
	data, err := os.ReadFile(localized)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"version: 1.0.0", "digest: sha256:", "name: charts", "namespace: orkestra", "canary: 1"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("the group says %q: %s", want, data)
		}
	}
	if strings.Contains(string(data), from) {
		t.Errorf("the group names the old repository: %s", data)
	}
	if code, _, errs := run(t, "", "lint", "-f", localized); code != 0 {
		t.Errorf("what load prints is a group: %s", errs)
	}
	_, out, _ = run(t, "", "bundle", "load", file, "--to", to)
	plain := write(t, out)
	if code, _, errs := run(t, "", "graph", "-f", plain, "--fetch"); code != 0 {
		t.Errorf("what load prints can be fetched: %s", errs)
	}
}

// withSecret has all charts of a group ask for credentials.
func withSecret(group string) string {
	return strings.ReplaceAll(group, "chart: {", "chart: {authSecretRef: {name: login}, ")
}

func TestBundleCredentials(t *testing.T) {
	noCluster(t)
	from := repository(t, "pass")
	file := filepath.Join(t.TempDir(), "bundle.tgz")
	group := write(t, withSecret(shop(from)))
	secret := write(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: login, namespace: default}\nstringData: {username: me, password: pass}\n")
	if code, _, errs := run(t, "", "bundle", "save", "-f", group, "-f", secret, "-o", file); code != 0 {
		t.Errorf("a Secret among the files is read: %s", errs)
	}
	code, _, errs := run(t, "", "bundle", "save", "-f", group, "-o", file)
	for _, want := range []string{"application web asks for the credentials in Secret default/login", "-f", "--username", "--kubeconfig"} {
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("who gives no credentials is told the ways, %q: %d, %s", want, code, errs)
		}
	}
	code, _, errs = run(t, "wrong", "bundle", "save", "-f", group, "-o", file, "--username", "me", "--password-stdin")
	if code != 1 || !strings.Contains(errs, "401") || strings.Contains(errs, "wrong") {
		t.Errorf("a wrong password is refused, and not shown: %d, %s", code, errs)
	}
	two := write(t, withSecret(strings.Replace(shop(from), fmt.Sprintf("{url: %q, name: mesh}", from), fmt.Sprintf("{url: %q, name: mesh}", repository(t, "other")), 1)))
	code, _, errs = run(t, "pass", "bundle", "save", "-f", two, "-o", file, "--username", "me", "--password-stdin")
	if code != 1 || !strings.Contains(errs, "the credentials of the flags went to") {
		t.Errorf("one password is for one host: %d, %s", code, errs)
	}
}

func TestBundleUsage(t *testing.T) {
	noCluster(t)
	group := write(t, shop(repository(t, "")))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"NoSuchCommand": {[]string{"bundle", "pack"}, `unknown command "pack"`},
		"NoOutput":      {[]string{"bundle", "save", "-f", group}, "-o"},
		"NoFile":        {[]string{"bundle", "save", "-o", "x"}, "-f"},
		"NoBundle":      {[]string{"bundle", "load", "--to", "https://a"}, "accepts 1 arg"},
		"NoTarget":      {[]string{"bundle", "load", "x"}, "--to"},
		"NoPassword":    {[]string{"bundle", "load", "x", "--to", "https://a", "--username", "me"}, "belong together"},
		"NoKey":         {[]string{"bundle", "load", "x", "--to", "https://a", "--cert-file", "c"}, "belong together"},
		"TwoInputs":     {[]string{"bundle", "load", "x", "--to", "https://a", "--username", "me", "--password-stdin", "--token-stdin"}, "one standard input"},
		"StdinTwice":    {[]string{"bundle", "save", "-f", "-", "-o", "x", "--username", "me", "--password-stdin"}, "cannot be both"},
		"NoSuchFormat":  {[]string{"bundle", "show", "x", "-o", "toml"}, "toml"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, _, errs := run(t, "", c.args...); code != 2 || !strings.Contains(errs, c.want) {
				t.Errorf("want %q, got %d, %s", c.want, code, errs)
			}
		})
	}
	if code, _, errs := run(t, "", "bundle", "show", filepath.Join(t.TempDir(), "none")); code != 1 || !strings.Contains(errs, "reading a bundle") {
		t.Errorf("a bundle that is not there: %d, %s", code, errs)
	}
	file := filepath.Join(t.TempDir(), "bundle.tgz")
	if code, _, errs := run(t, "", "bundle", "save", "-f", group, "-f", group, "-o", file); code != 1 || !strings.Contains(errs, "another group") {
		t.Errorf("a group twice: %d, %s", code, errs)
	}
	if code, _, errs := run(t, "", "bundle", "save", "-f", group, "-o", file); code != 0 {
		t.Fatal(errs)
	}
	for to, want := range map[string]string{"ftp://a": "http, https or oci", "charts": "it has to be a URL", "https://me:pass@a": "it has to be a URL"} {
		if code, _, errs := run(t, "", "bundle", "load", file, "--to", to); code != 1 || !strings.Contains(errs, want) || strings.Contains(errs, "pass") {
			t.Errorf("--to %s: %d, %s", to, code, errs)
		}
	}
}
