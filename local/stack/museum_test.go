package stack

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// ChartMuseum has a password that stays, which only its owner can read, and which is the same for it, for the stager and
// for whoever asks by hand; no process is told it by its arguments.
func TestMuseumPassword(t *testing.T) {
	l, err := Options{Root: t.TempDir()}.layout()
	if err != nil {
		t.Fatal(err)
	}
	var first string
	for range 2 {
		if err := l.makePassword(); err != nil {
			t.Fatal(err)
		}
		username, password, err := l.museumLogin()
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = password
		}
		if username == "" || len(password) < 20 || password != first {
			t.Errorf("user %q with a password of %d letters, the same as before: %t", username, len(password), password == first)
		}
		var config struct {
			BasicAuth struct {
				User string `json:"user"`
				Pass string `json:"pass"`
			} `json:"basicauth"`
		}
		b, err := os.ReadFile(l.museum("config.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(b, &config); err != nil {
			t.Fatal(err)
		}
		if config.BasicAuth.User != username || config.BasicAuth.Pass != password {
			t.Error("ChartMuseum takes another username and password than we have")
		}
	}
	err = filepath.WalkDir(l.museum(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if flags := strings.Join(l.museumFlags("http://127.0.0.1:1"), " "); strings.Contains(flags, first) || !strings.Contains(flags, l.museum()) {
		t.Errorf("the stager is told where the password is, and not what: %s", flags)
	}
}
