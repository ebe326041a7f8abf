package catalog

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"sigs.k8s.io/yaml"
)

const charts = "../../../examples/charts"

// The stand-ins have the names that the example charts ask for, and listen where those expect it.
func TestDemosAreWhatTheChartsName(t *testing.T) {
	want := map[string]int{}
	gateway, bookinfo := filepath.Join(charts, "gateway"), filepath.Join(charts, "bookinfo")
	v := values(t, gateway)
	want[v.Image.Repository+":"+v.Image.Tag] = port(t, gateway)
	registry := values(t, bookinfo).Global.ImageRegistry
	for _, name := range []string{"details", "productpage", "ratings", "reviews"} {
		chart := filepath.Join(bookinfo, "charts", name)
		v := values(t, chart)
		want[registry+"/"+v.Image.Name+":"+v.Image.Tag] = port(t, chart)
	}
	for _, i := range demos() {
		if p, ok := want[i.Reference]; !ok || !slices.Equal(i.Ports, []int{p}) || i.Args[len(i.Args)-1] != ":"+strconv.Itoa(p) {
			t.Errorf("%s listens on %v by %v; the charts name %v", i.Reference, i.Ports, i.Args, want)
		}
		delete(want, i.Reference)
	}
	if len(want) > 0 {
		t.Errorf("nothing stands in for %v", want)
	}
}

type chartValues struct {
	Global struct{ ImageRegistry string }
	Image  struct{ Repository, Name, Tag string }
}

func values(t *testing.T, chart string) chartValues {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var out chartValues
	if err := yaml.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func port(t *testing.T, chart string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(chart, "templates", "deployment.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`containerPort: (\d+)`).FindSubmatch(b)
	if found == nil {
		t.Fatalf("no containerPort in %s", chart)
	}
	p, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSelect(t *testing.T) {
	all, err := Select(nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, i := range all {
		if seen[i.Name] || i.Set == Test {
			t.Errorf("%s is there twice, or is only for tests", i.Name)
		}
		seen[i.Name] = true
	}
	some, err := Select([]string{Node, "nats"})
	if err != nil || len(some) != 2 {
		t.Errorf("the set %s and nats are %v, %v", Node, some, err)
	}
	if _, err := Select([]string{"nothing"}); err == nil {
		t.Error("an image that there is not can be selected")
	}
}
