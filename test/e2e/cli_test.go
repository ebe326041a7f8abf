package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
)

// orkestra runs the command line as a user does, on the tests' cluster.
func orkestra(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(env.root, ".local", "bin", "orkestra"), args...)
	cmd.Env = os.Environ()
	for _, name := range []string{"KUBECONFIG", "NATS_URL", "NATS_CA", "NATS_NKEY"} {
		cmd.Env = append(cmd.Env, name+"="+env.vars[name])
	}
	cmd.Stdout, cmd.Stderr = &o, &e
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("running orkestra %v: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// answers runs the command line, and fails unless it ends with the code and says all the
// words, on either stream.
func answers(t *testing.T, code int, words []string, args ...string) string {
	t.Helper()
	got, out, errs := orkestra(t, args...)
	if got != code {
		t.Fatalf("orkestra %v: exit code %d, want %d\n%s%s", args, got, code, out, errs)
	}
	for _, w := range words {
		if !strings.Contains(out+errs, w) {
			t.Errorf("orkestra %v does not say %q:\n%s%s", args, w, out, errs)
		}
	}
	return out
}

// revisions of a group, as the command line tells programs.
func revisions(t *testing.T, name string) map[int64]string {
	t.Helper()
	var views []struct {
		Revision int64  `json:"revision"`
		Status   string `json:"status"`
	}
	raw := answers(t, 0, nil, "history", name, "-o", "json")
	if err := json.Unmarshal([]byte(raw), &views); err != nil {
		t.Fatalf("reading the history: %v\n%s", err, raw)
	}
	out := map[int64]string{}
	for _, v := range views {
		out[v.Revision] = v.Status
	}
	return out
}

// Three rollouts, and back: history, diff and rollback on a living group.
func TestCommandsGoBack(t *testing.T) {
	s := serve(t)
	for _, v := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		add(t, s, "small", v, configMapChart())
	}
	const name = "cliback"
	create(t, chain(name, s.URL, 3))
	answers(t, 0, []string{"Ready", "generation 1 is rolled out"}, "status", name, "--watch", "--timeout", "1m")
	answers(t, 0, nil, "diff", name)
	for _, v := range []string{"1.1.0", "1.2.0"} {
		update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[1].Spec.Chart.Version = v })
		answers(t, 0, nil, "status", name, "--watch", "--timeout", "1m")
	}
	if diff := cmp.Diff(map[int64]string{1: "good", 2: "good", 3: "current"}, revisions(t, name)); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}

	answers(t, 0, nil, "diff", name)
	answers(t, 1, []string{"downgraded  application a1: small 1.2.0 -> 1.0.0"}, "diff", name, "--revision", "1")
	answers(t, 2, []string{"no revision 9"}, "diff", name, "--revision", "9")

	answers(t, 2, []string{"--yes"}, "rollback", name) // nobody to ask
	answers(t, 0, []string{"would go back to revision 2"}, "rollback", name, "--dry-run=server")
	if diff := cmp.Diff(map[int64]string{1: "good", 2: "good", 3: "current"}, revisions(t, name)); diff != "" {
		t.Errorf("history after what changed nothing (-want +got):\n%s", diff)
	}
	answers(t, 0, []string{"goes back to revision 2, as generation 4"}, "rollback", name, "--yes", "--wait", "--timeout", "1m")
	want := map[string]string{name + "/a0": "1.0.0", name + "/a1": "1.1.0", name + "/a2": "1.0.0"}
	if diff := cmp.Diff(want, chartVersions(t, name)); diff != "" {
		t.Errorf("installed after the rollback (-want +got):\n%s", diff)
	}
	answers(t, 0, []string{"goes back to revision 1"}, "rollback", name, "--revision", "1", "--yes", "--wait", "--timeout", "1m")
	want[name+"/a1"] = "1.0.0"
	if diff := cmp.Diff(want, chartVersions(t, name)); diff != "" {
		t.Errorf("installed after the second rollback (-want +got):\n%s", diff)
	}

	answers(t, 1, []string{"it is ready", "orkestra reconcile " + name}, "retry", name)
	answers(t, 0, []string{"generation 5"}, "reconcile", name, "--wait", "--timeout", "1m")
	answers(t, 0, []string{"the group is gone"}, "delete", name, "--yes", "--wait", "--timeout", "1m")
	nothingLeft(t, name)
	answers(t, 1, []string{"there is no group " + name}, "status", name)
}

// A group that has failed and is left so goes on with retry, once what was wrong is not
// any more, and from where it stands.
func TestCommandsRetry(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const name = "cliretry"
	g := chain(name, s.URL, 2)
	g.Spec.Remediation = &v1alpha1.Remediation{Strategy: v1alpha1.RemediationNone}
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a1-small", Namespace: name}, Immutable: new(true), Data: map[string]string{"message": "mine"}},
	} {
		if err := env.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	create(t, g)
	answers(t, 1, []string{"Failed", "WorkflowFailed", "a1", "What was made is left as it is.", "orkestra retry " + name}, "status", name, "--watch", "--timeout", "1m")
	if got := revisions(t, name); got[1] != "failed" {
		t.Errorf("history: %v", got)
	}
	before := releases(t, name)[name+"/a0"]
	if err := env.client.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a1-small", Namespace: name}}); err != nil {
		t.Fatal(err)
	}
	answers(t, 0, []string{"asked for a rollout", "Ready"}, "retry", name, "--wait", "--timeout", "1m")
	if got := releases(t, name)[name+"/a0"]; got.Generation != before.Generation || got.Status.History.Latest().Version != before.Status.History.Latest().Version {
		t.Error("a0 was installed already, and was touched")
	}
	if got := revisions(t, name); got[1] != "current" {
		t.Errorf("history after the retry: %v", got)
	}
}

// Held, edited, and let go again by the command line.
func TestCommandsHold(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "small", "1.1.0", configMapChart())
	const name = "clihold"
	create(t, chain(name, s.URL, 2))
	answers(t, 0, nil, "status", name, "--watch", "--timeout", "1m")
	answers(t, 0, []string{name + ": suspended"}, "suspend", name)
	awaitReady(t, name, 30*time.Second, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
	answers(t, 0, []string{"suspended already"}, "suspend", name)
	update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[0].Spec.Chart.Version = "1.1.0" })
	awaitReady(t, name, 30*time.Second, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
	answers(t, 1, []string{"application a0: small 1.0.0 -> 1.1.0"}, "diff", name)
	answers(t, 1, []string{"orkestra resume " + name}, "reconcile", name)
	answers(t, 1, []string{"Suspended"}, "status", name, "--watch")
	if got := chartVersions(t, name)[name+"/a0"]; got != "1.0.0" {
		t.Errorf("a0 has version %s, and its group is held", got)
	}
	answers(t, 0, []string{"resumed"}, "resume", name, "--wait", "--timeout", "1m")
	if got := chartVersions(t, name)[name+"/a0"]; got != "1.1.0" {
		t.Errorf("a0 has version %s after the group was let go", got)
	}
}
