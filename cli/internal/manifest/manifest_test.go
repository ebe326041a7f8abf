package manifest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/cli/internal/manifest"
)

const head = `apiVersion: orkestra.azure.microsoft.com/v1alpha1
kind: ApplicationGroup
metadata:
  name: g
spec:
  applications:
`

const good = head + `    - name: a
      spec:
        chart: {url: https://charts.example.com, name: a}
        release: {targetNamespace: ns, timeout: 90s, values: {any: {thing: [1, null]}}}
`

func read(t *testing.T, text string) ([]string, []string) {
	t.Helper()
	set, err := manifest.Read([]string{manifest.Stdin}, strings.NewReader(text))
	var names, problems []string
	for _, d := range set.Groups {
		names = append(names, d.Group.Name)
	}
	for _, p := range flatten(err) {
		problems = append(problems, p.Error())
	}
	return names, problems
}

func flatten(err error) []error {
	if err == nil {
		return nil
	}
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		var out []error
		for _, e := range many.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	return []error{err}
}

func TestRead(t *testing.T) {
	cases := map[string]struct {
		reason   string
		text     string
		groups   []string
		problems []string
	}{
		"Good": {
			reason: "values are free", text: good, groups: []string{"g"},
		},
		"SeveralDocuments": {
			reason: "objects of other kinds, empty documents and comments are passed over",
			text:   "# first\n---\n" + good + "--- # third\nkind: Namespace\napiVersion: v1\nmetadata: {name: n}\n---\n\n---\n# nothing\n---\n" + strings.Replace(good, "name: g", "name: h", 1),
			groups: []string{"g", "h"},
		},
		"UnknownField": {
			reason:   "a field that the API does not have is named with its line",
			text:     strings.Replace(good, "release: {", "release: {targetNamespce: x, ", 1),
			problems: []string{"stdin:10: spec.applications[0].spec.release.targetNamespce: is not a field of an ApplicationGroup"},
		},
		"SecondDocument": {
			reason:   "lines are those of the file",
			text:     good + "---\n" + strings.Replace(good, "- name: a", "- nmae: a", 1),
			groups:   []string{"g"},
			problems: []string{"stdin:18: spec.applications[0].nmae: is not a field of an ApplicationGroup"},
		},
		"WrongTypes": {
			reason: "each value of a wrong type is named, with its line",
			text: head + `    - name: 7
      dependencies: b
      spec:
        chart: {url: https://charts.example.com, name: a}
        release:
          targetNamespace: {}
          timeout: 5 minutes
          upgrade: {disableWait: "yes"}
    - name: b
      dependencies:
        - 1
`,
			problems: []string{
				"stdin:7: spec.applications[0].name: is a number, and should be a string",
				"stdin:8: spec.applications[0].dependencies: is a string, and should be a list",
				"stdin:12: spec.applications[0].spec.release.targetNamespace: is an object, and should be a string",
				`stdin:13: spec.applications[0].spec.release.timeout: unknown unit " minutes" in duration "5 minutes"; write a duration such as 90s, 5m or 1h30m`,
				"stdin:14: spec.applications[0].spec.release.upgrade.disableWait: is a string, and should be true or false",
				"stdin:17: spec.applications[1].dependencies[0]: is a number, and should be a string",
			},
		},
		"Norway": {
			reason:   "YAML's many words for true and false are explained",
			text:     strings.Replace(good, "targetNamespace: ns", "targetNamespace: no", 1),
			problems: []string{"stdin:10: spec.applications[0].spec.release.targetNamespace: is true or false, and should be a string; YAML takes y, n, yes, no, on and off for one: put quotes round it"},
		},
		"BrokenYAML": {
			reason:   "the line is the one in the file",
			text:     good + "---\nkind: [\n",
			groups:   []string{"g"},
			problems: []string{"stdin:12: did not find expected node content"},
		},
		"KeyTwice": {
			reason:   "a key that is there twice is a problem, not the second value",
			text:     good + "spec: {}\n",
			problems: []string{`stdin:11: key "spec" already set in map`},
		},
		"NoKind":       {reason: "an object says what it is", text: "a: b\n", problems: []string{"stdin:1: kind: is missing"}},
		"NotAnObject":  {reason: "a list is no object", text: "- a\n", problems: []string{"stdin:1: is not a Kubernetes object"}},
		"NoName":       {reason: "a group has a name", text: strings.Replace(good, "name: g", "labels: {}", 1), problems: []string{"stdin:3: metadata.name: is missing"}},
		"WrongVersion": {reason: "a version that there is not is named", text: strings.Replace(good, "v1alpha1", "v1", 1), problems: []string{`stdin:1: apiVersion: is "orkestra.azure.microsoft.com/v1"; an ApplicationGroup has "orkestra.azure.microsoft.com/v1alpha1"`}},
		"WrongKind":    {reason: "a kind that there is not is named", text: strings.Replace(good, "kind: ApplicationGroup", "kind: ApplicationGruop", 1), problems: []string{`stdin:2: kind: is "ApplicationGruop"; orkestra.azure.microsoft.com/v1alpha1 has only ApplicationGroup`}},
		"Nothing":      {reason: "nothing to read is a problem", text: "# empty\n", problems: []string{"-: there is no ApplicationGroup in it"}},
		"ItsOwnAlias":  {reason: "an alias of itself is refused", text: "kind: &a [*a]\n", problems: []string{"stdin: anchor 'a' value contains itself"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			groups, problems := read(t, tc.text)
			if diff := cmp.Diff(tc.groups, groups); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.problems, problems); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestReadFolder(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"b.yaml": strings.Replace(good, "name: g", "name: b", 1), "a.yml": good, "notes.txt": "no"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, err := manifest.Read([]string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	docs := set.Groups
	if len(docs) != 2 || docs[0].Group.Name != "g" || docs[1].Group.Name != "b" {
		t.Errorf("the manifests of a folder, in the order of their names: %v", docs)
	}
	if _, err := manifest.Read([]string{filepath.Join(dir, "none.yaml")}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there is named: %v", err)
	}
	if got := docs[1].Problem("spec.applications[0].spec.chart.version", "is wrong").Error(); got != filepath.Join(dir, "b.yaml")+":9: spec.applications[0].spec.chart.version: is wrong" {
		t.Errorf("a field that is not there has the line of what it is missing from: %s", got)
	}
}

func TestReadSecrets(t *testing.T) {
	set, err := manifest.Read([]string{manifest.Stdin}, strings.NewReader(good+`---
apiVersion: v1
kind: Secret
metadata: {name: registry, namespace: charts}
data: {username: bWU=}
stringData: {password: hunter2}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[types.NamespacedName]map[string][]byte{
		{Namespace: "charts", Name: "registry"}: {"username": []byte("me"), "password": []byte("hunter2")},
	}
	if diff := cmp.Diff(want, set.Secrets); diff != "" {
		t.Errorf("Secrets are read too (-want +got):\n%s", diff)
	}
	_, err = manifest.Read([]string{manifest.Stdin}, strings.NewReader("apiVersion: v1\nkind: Secret\ndata: {password: hunter-2}\n"))
	if err == nil || strings.Contains(err.Error(), "hunter") {
		t.Errorf("what is in a Secret is in no message: %v", err)
	}
}
