package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/test/repository"
)

// The charts of the model: small, and an umbrella that is split in two and itself. Their
// last version cannot be installed.
var modelVersions = []string{"1.0.0", "1.1.0", "1.2.0", modelBroken}

const modelBroken = "9.0.0"

// modelApp is one application of the model.
type modelApp struct {
	chart, version, message string
	dependencies            []string
}

// modelSpec is what a group of the model asks for, by application.
type modelSpec map[string]modelApp

// model is what must be there of one group: what was asked for last and, of what was
// asked for before, all that may be its last good revision (an empty one is none).
type model struct {
	name   string
	rng    *rand.Rand
	exists bool
	want   modelSpec
	goods  []modelSpec
	story  []string
}

func (m *model) tell(format string, args ...any) {
	m.story = append(m.story, fmt.Sprintf(format, args...))
}

// group is the spec as a manifest.
func (m *model) group(url string) *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: m.name}}
	for _, name := range names(m.want) {
		app := m.want[name]
		a := v1alpha1.Application{DAG: v1alpha1.DAG{Name: name, Dependencies: app.dependencies}}
		a.Spec.Chart = v1alpha1.ChartRef{URL: url, Name: app.chart, Version: app.version}
		a.Spec.Release = v1alpha1.Release{TargetNamespace: m.name, Timeout: &metav1.Duration{}}
		a.Spec.Release.Timeout.Duration = v1alpha1.DefaultTimeout
		a.Spec.Release.Values = &apiextensionsv1.JSON{Raw: fmt.Appendf(nil, `{"message":%q}`, app.message)}
		if app.chart == "umbrella" {
			a.Spec.Subcharts = []v1alpha1.DAG{{Name: "one"}, {Name: "two", Dependencies: []string{"one"}}}
		}
		g.Spec.Applications = append(g.Spec.Applications, a)
	}
	return g
}

// releases that a spec makes, with the version of each, and what their ConfigMaps say.
func (s modelSpec) releases(namespace string) (versions, messages map[string]string) {
	versions, messages = map[string]string{}, map[string]string{}
	for name, app := range s {
		versions[namespace+"/"+name] = app.version
		messages[name+"-"+app.chart] = app.message
		if app.chart == "umbrella" {
			for _, sub := range []string{"one", "two"} {
				versions[namespace+"/"+name+"-"+sub] = app.version
				messages[name+"-"+sub] = "hello"
			}
		}
	}
	return versions, messages
}

func (s modelSpec) broken() bool {
	for _, app := range s {
		if app.version == modelBroken {
			return true
		}
	}
	return false
}

func (s modelSpec) clone() modelSpec { return maps.Clone(s) }

// step changes what is wanted, in one of the ways in which a user may.
func (m *model) step() {
	if !m.exists {
		m.want = modelSpec{}
		for range 2 + m.rng.IntN(3) {
			m.add()
		}
		return
	}
	switch m.rng.IntN(10) {
	case 0, 1:
		m.add()
	case 2:
		m.removeOne()
	case 3, 4, 5:
		name := m.any()
		app := m.want[name]
		app.version = modelVersions[m.rng.IntN(len(modelVersions)-1)]
		m.want[name] = app
		m.tell("%s to %s", name, app.version)
	case 6, 7:
		name := m.any()
		app := m.want[name]
		app.version = modelBroken
		m.want[name] = app
		m.tell("%s broken", name)
	case 8:
		name := m.any()
		app := m.want[name]
		app.message = fmt.Sprint("message ", m.rng.IntN(1000))
		m.want[name] = app
		m.tell("%s says %q", name, app.message)
	default:
		m.tell("asked again")
	}
}

func (m *model) any() string { return names(m.want)[m.rng.IntN(len(m.want))] }

// add an application that depends on some of those that are there.
func (m *model) add() {
	app := modelApp{chart: "small", version: modelVersions[m.rng.IntN(len(modelVersions)-1)], message: "hello"}
	name := fmt.Sprintf("s%d", m.rng.IntN(6))
	if m.rng.IntN(3) == 0 {
		app.chart, name = "umbrella", fmt.Sprintf("u%d", m.rng.IntN(2))
	}
	if _, there := m.want[name]; there {
		m.tell("asked again")
		return
	}
	for _, other := range names(m.want) {
		if m.rng.IntN(3) == 0 {
			app.dependencies = append(app.dependencies, other)
		}
	}
	m.want[name] = app
	m.tell("add %s of %s %s after %v", name, app.chart, app.version, app.dependencies)
}

// removeOne application, and every dependency on it.
func (m *model) removeOne() {
	if len(m.want) < 2 {
		m.tell("asked again")
		return
	}
	gone := m.any()
	delete(m.want, gone)
	for name, app := range m.want {
		app.dependencies = slices.DeleteFunc(slices.Clone(app.dependencies), func(d string) bool { return d == gone })
		m.want[name] = app
	}
	m.tell("remove %s", gone)
}

// modelRepository serves the charts.
func modelRepository(s *repository.Server) error {
	for _, version := range modelVersions {
		small, umbrella := configMapChart(), umbrellaChart()
		umbrella["Chart.yaml"] = "apiVersion: v2\nname: umbrella\nversion: " + version + "\ndependencies:\n- {name: one, version: 1.0.0}\n- {name: two, version: 1.0.0}\n"
		if version == modelBroken {
			small, umbrella["templates/broken.yaml"] = brokenChart(), brokenChart()["templates/broken.yaml"]
		}
		if err := s.Add("small", version, small); err != nil {
			return err
		}
		if err := s.Add("umbrella", version, umbrella); err != nil {
			return err
		}
	}
	return nil
}
