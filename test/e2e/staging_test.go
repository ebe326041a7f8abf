package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
	"orkestra.dev/test/repository"
)

// unavailable waits until the group says that staging waits for a server, and why.
func unavailable(t *testing.T, name, reason string) {
	t.Helper()
	eventually(t, time.Minute, "group "+name+" to be Staged=False/"+reason, func(ctx context.Context) error {
		g, err := get(ctx, name)
		if err != nil {
			return err
		}
		for _, c := range g.Status.Conditions {
			if c.Type == v1alpha1.ConditionStaged && c.Status == metav1.ConditionFalse && c.Reason == reason {
				return nil
			}
		}
		return errors.New(conditions(g))
	})
}

// ChartMuseum is away when a group is to be staged: the group says so, and goes on when
// it is back.
func TestChartMuseumAway(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	p, err := env.stack.Process("chartmuseum")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Start(context.Background()); err != nil {
			t.Error(err)
		}
	})
	create(t, chain("unmuseumed", s.URL, 3))
	unavailable(t, "unmuseumed", v1alpha1.ReasonStagingUnavailable)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, "unmuseumed", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
}

// sideBySide is a group of n applications that wait for nothing, each with a chart of
// its own.
func sideBySide(t *testing.T, s *repository.Server, name string, n int) *v1alpha1.ApplicationGroup {
	t.Helper()
	g := chain(name, s.URL, n)
	for i := range n {
		chart := fmt.Sprintf("small%d", i)
		add(t, s, chart, "1.0.0", configMapChart())
		g.Spec.Applications[i].Spec.Chart.Name = chart
		g.Spec.Applications[i].Dependencies = nil
	}
	return g
}

// ChartMuseum is killed, and comes back, while many charts are on their way to it.
func TestChartMuseumKilledInMidStaging(t *testing.T) {
	s := serve(t)
	const n = 30
	g := sideBySide(t, s, "restaged", n)
	p, err := env.stack.Process("chartmuseum")
	if err != nil {
		t.Fatal(err)
	}
	create(t, g)
	eventually(t, 30*time.Second, "the charts to be asked for", func(context.Context) error {
		if s.Hits("/index.yaml") == 0 {
			return errors.New("they are not")
		}
		return nil
	})
	for range 3 {
		if err := p.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	awaitReady(t, g.Name, 2*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	if got := len(releases(t, g.Name)); got != n {
		t.Errorf("%d releases, want %d", got, n)
	}
	once(t, g.Name)
}

// A registry that is away: the group names it, and goes on when it is back.
func TestRegistryAway(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	url := s.URL
	s.Close()
	create(t, chain("unreached", url, 2))
	unavailable(t, "unreached", v1alpha1.ReasonRepositoryUnreachable)
	g, err := get(t.Context(), "unreached")
	if err != nil {
		t.Fatal(err)
	}
	if m := message(g, v1alpha1.ConditionStaged); !strings.Contains(m, url) {
		t.Errorf("the message does not name the registry: %s", m)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, "unreached", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
}

// onTinyDisk runs the stack's ChartMuseum again with a disk of a few pages, in a mount
// namespace of its own, until the function that it returns is called.
func onTinyDisk(t *testing.T, p *stack.Process) (stop func()) {
	t.Helper()
	status := p.Status(t.Context())
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", status.PID))
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
	const root = "--storage-local-rootdir="
	i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, root) })
	if i < 0 {
		t.Fatalf("ChartMuseum runs as %q, without %s", args, root)
	}
	if err := p.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	script := `mount -t tmpfs -o size=16k tmpfs "$0" && exec "$@"`
	tiny := exec.Command("unshare", append([]string{"--user", "--map-root-user", "--mount", "sh", "-c", script, strings.TrimPrefix(args[i], root)}, args...)...)
	if err := tiny.Start(); err != nil {
		t.Fatalf("running ChartMuseum on a disk of its own: %v", err)
	}
	stop = sync.OnceFunc(func() {
		if err := tiny.Process.Kill(); err != nil {
			t.Error(err)
		}
		if exit, ok := errors.AsType[*exec.ExitError](tiny.Wait()); !ok || exit.ExitCode() != -1 {
			t.Errorf("ChartMuseum on its tiny disk ended by itself: %v", exit)
		}
		if err := p.Start(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	eventually(t, 20*time.Second, "ChartMuseum to be healthy on its tiny disk", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, env.vars["CHARTMUSEUM_URL"]+"/health", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	return stop
}

// The disk under ChartMuseum is full: nothing is lost, and staging goes on when there
// is room again.
func TestChartMuseumDiskFull(t *testing.T) {
	s := serve(t)
	const n = 12
	g := sideBySide(t, s, "diskfull", n)
	p, err := env.stack.Process("chartmuseum")
	if err != nil {
		t.Fatal(err)
	}
	stop := onTinyDisk(t, p)
	create(t, g)
	unavailable(t, g.Name, v1alpha1.ReasonStagingUnavailable)
	if got := len(releases(t, g.Name)); got != 0 {
		t.Errorf("%d releases of a group that is not staged", got)
	}
	stop()
	awaitReady(t, g.Name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	once(t, g.Name)
}

// Five applications of five kinds of registry, each with its credentials: one group.
func TestFiveKindsOfRegistries(t *testing.T) {
	const name = "fivekinds"
	g := chain(name, "", len(repository.Kinds()))
	for i, kind := range repository.Kinds() {
		s, err := repository.Start(kind)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		add(t, s, "small", "1.0.0", configMapChart())
		add(t, s, "small", "1.4.2+build.7", configMapChart())
		chart := &g.Spec.Applications[i].Spec.Chart
		chart.URL, chart.Version = s.URL, "^1.0.0"
		if secret := s.Secret("default", fmt.Sprintf("%s-%d", name, i)); secret != nil {
			if err := env.client.Create(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := env.client.Delete(context.Background(), secret); err != nil {
					t.Error(err)
				}
			})
			chart.AuthSecretRef = &corev1.ObjectReference{Name: secret.Name}
		}
	}
	create(t, g)
	got := awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	for i, a := range got.Status.Applications {
		if a.Version != "1.4.2+build.7" {
			t.Errorf("%s: resolved %s", repository.Kinds()[i], a.Version)
		}
	}
}

// Credentials that are wrong are the group's fault, and are tried again when the Secret
// changes, and only then.
func TestCredentialsAreMended(t *testing.T) {
	const name = "uncredited"
	s, err := repository.Start(repository.HTTPBasicAuth)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	add(t, s, "small", "1.0.0", configMapChart())
	secret := s.Secret("default", name)
	right := secret.Data["password"]
	secret.Data["password"] = []byte("wrong-c4n4ry")
	if err := env.client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.client.Delete(context.Background(), secret); err != nil {
			t.Error(err)
		}
	})
	g := chain(name, s.URL, 2)
	for i := range g.Spec.Applications {
		g.Spec.Applications[i].Spec.Chart.AuthSecretRef = &corev1.ObjectReference{Name: name}
	}
	create(t, g)
	unavailable(t, name, v1alpha1.ReasonAuthenticationFailed)
	awaitReady(t, name, 10*time.Second, metav1.ConditionFalse, v1alpha1.ReasonChartPullFailed)
	still(t, "requests to a registry that refuses the credentials", s.Requests)
	secret.Data["password"] = right
	if err := env.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
}

// Charts that no revision and no release needs any more are collected, and staged again
// when they are wanted again.
func TestOldChartsAreCollected(t *testing.T) {
	s := serve(t)
	const name = "collected"
	g := chain(name, s.URL, 1)
	g.Spec.RevisionHistoryLimit = new(int32(1))
	for i, version := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		add(t, s, "small", version, configMapChart())
		if i == 0 {
			create(t, g)
		} else {
			update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[0].Spec.Chart.Version = version })
		}
		awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	}
	eventually(t, time.Minute, "the charts of old revisions to go", func(ctx context.Context) error {
		var charts sourcev1.HelmChartList
		if err := env.client.List(ctx, &charts, client.MatchingLabels{v1alpha1.LabelOwner: name}); err != nil {
			return err
		}
		staged, err := museum(ctx, name)
		if err != nil {
			return err
		}
		kept, _ := staged["small"].([]any)
		if len(charts.Items) != 1 || charts.Items[0].Spec.Version != "1.2.0" || len(kept) != 1 {
			return fmt.Errorf("%d HelmCharts, and in ChartMuseum %v", len(charts.Items), kept)
		}
		return nil
	})
	update(t, name, func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[0].Spec.Chart.Version = "1.0.0" })
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
}
