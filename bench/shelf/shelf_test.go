package shelf_test

import (
	"io"
	"net/http"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"orkestra.dev/bench/shelf"
	"orkestra.dev/services/stager/archive"
)

func get(t *testing.T, url string, status int) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("GET %s: got %s, %v", url, resp.Status, err)
	}
	return body
}

// Every chart of the index is there, is what its digest says, and whoever takes one is counted.
func TestShelf(t *testing.T) {
	var served []string
	s, err := shelf.New(map[string][]archive.File{
		"big":   shelf.Chart("big", "description: big\n"),
		"small": shelf.Chart("small", ""),
	}, func(path string) { served = append(served, path) })
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Entries map[string][]struct {
			Version, Digest string
			URLs            []string
		}
	}
	if err := yaml.Unmarshal(get(t, s.URL+"/index.yaml", http.StatusOK), &index); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"big", "small"} {
		entries := index.Entries[name]
		if len(entries) != 1 || entries[0].Version != shelf.Version {
			t.Fatalf("%s has the versions %v", name, entries)
		}
		if data := get(t, s.URL+"/"+entries[0].URLs[0], http.StatusOK); archive.Digest(data) != "sha256:"+entries[0].Digest {
			t.Errorf("%s is not what its digest says", name)
		}
	}
	// On one connection, this is answered after all before has been told of.
	get(t, s.URL+"/other-1.0.0.tgz", http.StatusNotFound)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/index.yaml", "/big-1.0.0.tgz", "/small-1.0.0.tgz"}; !slices.Equal(served, want) {
		t.Errorf("served: got %v, want %v", served, want)
	}
}
