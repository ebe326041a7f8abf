package e2enode

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/examples"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
	"orkestra.dev/test/repository"
)

// The demo's group, with pods that run and listen: its front page answers through its Service.
func TestBookinfoAnswers(t *testing.T) {
	username, password, err := env.Stack.MuseumLogin()
	if err != nil {
		t.Fatal(err)
	}
	url, err := examples.Museum{URL: env.vars["CHARTMUSEUM_URL"], Username: username, Password: password}.Push(t.Context(), "examples")
	if err != nil {
		t.Fatal(err)
	}
	g := env.RollOut(t, examples.Bookinfo(url, stack.Namespace+"/"+stack.MuseumSecret))
	env.BookinfoAnswers(t)
	env.Remove(t, g)
}

// custom is a step that is a container of somebody else's.
const custom = `
        workflow:
          - name: theirs
            type: custom
            image:
              name: theirs
              image: ghcr.io/orkestra-dev/custom-executor:dev
              imagePullPolicy: IfNotPresent
              command: [custom-executor]
            params: {data: {hello: world}}`

// then is a step of our own behind it.
const then = `
          - name: ours
            dependencies: [theirs]`

// outcomes of a group by what must not depend on how its steps are run.
type outcomes struct {
	Releases map[string]string
	Ready    string
	Facts    []string
}

// The same group, run by the executor service, by pods of ours, by a container of somebody else, and by a chain of two: the
// same releases, the same end, and the same is said about them.
func TestExecutorsAgree(t *testing.T) {
	server := repository.New()
	defer server.Close()
	if err := server.Add("small", "1.0.0", repository.Files{
		"values.yaml":              "message: hello\n",
		"templates/configmap.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {message: {{ .Values.message | quote }}}\n",
	}); err != nil {
		t.Fatal(err)
	}
	want := rollOutAndAway(t, server.URL, "as-event", "event", "")
	if len(want.Releases) != 2 || len(want.Facts) == 0 {
		t.Fatalf("the executor service's rollout: %+v", want)
	}
	// A container of somebody else does not mark a release with its workflow, and so nobody says that it is ready.
	unmarked := want
	unmarked.Facts = slices.DeleteFunc(slices.Clone(want.Facts), func(f string) bool {
		return strings.HasPrefix(f, string(events.TypeReleaseReady))
	})
	for _, c := range []struct {
		name, mode, workflow string
		want                 outcomes
	}{
		{"as-pod", "pod", "", want},
		{"as-custom", "event", custom, unmarked},
		{"as-chain", "pod", custom + then, want},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, rollOutAndAway(t, server.URL, c.name, c.mode, c.workflow)); diff != "" {
				t.Errorf("not what the executor service does (-service +%s):\n%s", c.name, diff)
			}
		})
	}
}

// rollOutAndAway rolls a chain of two applications out and away again, and returns what became of it.
func rollOutAndAway(t *testing.T, url, name, mode, workflow string) outcomes {
	t.Helper()
	var manifest strings.Builder
	fmt.Fprintf(&manifest, "apiVersion: orkestra.azure.microsoft.com/v1alpha1\nkind: ApplicationGroup\nmetadata: {name: %s}\nspec:\n  executor: %s\n  applications:\n", name, mode)
	for _, app := range []struct{ name, dependencies string }{{"first", ""}, {"second", "first"}} {
		fmt.Fprintf(&manifest, `    - name: %s
      dependencies: [%s]
      spec:
        chart: {url: %q, name: small, version: 1.0.0}
        release: {targetNamespace: %s, timeout: 2m, values: {message: %s}}%s
`, app.name, app.dependencies, url, name, app.name, workflow)
	}
	g := env.RollOut(t, []byte(manifest.String()))
	out := outcomes{Releases: map[string]string{}, Ready: apimeta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionReady).Reason}
	for _, hr := range env.Releases(t, name) {
		out.Releases[hr.Name] = anonymous(t, hr.Spec, name)
		var cm corev1.ConfigMap
		if err := env.Client.Get(t.Context(), client.ObjectKey{Namespace: name, Name: hr.Name}, &cm); err != nil {
			t.Error(err)
		}
		if cm.Data["message"] != hr.Name {
			t.Errorf("the ConfigMap of %s says %q", hr.Name, cm.Data["message"])
		}
	}
	env.Remove(t, g)
	out.Facts = said(t, name)
	return out
}

// chartDigest ends the name of a staged chart; the group's own name is a part of what it is made of.
var chartDigest = regexp.MustCompile(`"GROUP-small-[0-9a-f]+"`)

// anonymous is the JSON of a spec, with what is of one group taken out, and with it how the values get there: those of a
// pod are in a Secret, as its arguments can be seen by many. What comes of them is in the ConfigMap.
func anonymous(t *testing.T, spec helmv2.HelmReleaseSpec, group string) string {
	t.Helper()
	spec.Values, spec.ValuesFrom = nil, nil
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return chartDigest.ReplaceAllString(strings.ReplaceAll(string(b), group, "GROUP"), `"GROUP-small"`)
}

// said is what was said about the releases and the rollouts of a group, sorted, each once: a pod that deletes a release
// marks it first, and it is said again that it is ready. What is said of steps is not among it, as those differ, nor what
// is said of charts in the repository, which is of no group.
func said(t *testing.T, group string) []string {
	t.Helper()
	var out []string
	err := env.bus.Follow(t.Context(), events.FollowOptions{Group: group}, func(f events.Fact, _ []byte) error {
		line := string(f.Type())
		switch d := f.Data.(type) {
		case events.NodeStarted, events.NodeSucceeded, events.ChartPushed:
			return nil
		case events.NodeFailed:
			return errors.New("a node has failed: " + d.Message)
		case events.ReleaseReady:
			line += " " + d.Name
		case events.ReleaseDeleted:
			line += " " + d.Name
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
