package installation

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/action"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/examples"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
	"orkestra.dev/test/e2enode/realnode"
)

// TestInstallation goes through the life of an installation, on one cluster. What fails ends it: what follows builds on it.
func TestInstallation(t *testing.T) {
	i := begin(t)
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"installed", i.installed},
		{"helm test", i.tested},
		{"network policies", i.bounded},
		{"bookinfo", i.bookinfo},
		{"executor pods", i.executorPods},
		{"doctor", i.doctor},
		{"upgraded, and NATS lost, while groups roll out", i.upgradedWithoutNATS},
		{"uninstalled", i.uninstalled},
		{"one process", i.oneProcess},
		{"installed with three servers of NATS", i.installedRedundant},
		{"upgraded to a password of ChartMuseum while groups roll out", i.upgraded},
		{"webhooks by TLS", i.webhooks},
		{"pods lost while groups roll out", i.losses},
		{"uninstalled again", i.uninstall},
	} {
		if !t.Run(step.name, step.run) {
			return
		}
	}
}

// installed: every pod is ready, in a namespace that takes only restricted ones, and none had to be started twice.
func (i *installation) installed(t *testing.T) {
	begin := time.Now()
	i.install(t, i.values("services", "info"))
	t.Logf("installed after %s", time.Since(begin).Round(time.Second))
	i.allReady(t, 16)
}

func (i *installation) allReady(t *testing.T, count int) {
	t.Helper()
	pods := i.podsOf(t)
	if len(pods) != count {
		t.Errorf("want %d pods: %q", count, i.pods(t))
	}
	for _, p := range pods {
		for _, c := range p.Status.ContainerStatuses {
			if !c.Ready || c.RestartCount > 0 {
				t.Errorf("pod %s: container %s: ready %v, %d restarts", p.Name, c.Name, c.Ready, c.RestartCount)
			}
		}
	}
}

func (i *installation) tested(t *testing.T) {
	test := action.NewReleaseTesting(i.helm(t))
	test.Namespace, test.Timeout = namespace, realnode.Patience
	if _, err := test.Run(name); err != nil {
		t.Fatal(err)
	}
}

func (i *installation) bookinfo(t *testing.T) {
	begin := time.Now()
	g := i.RollOut(t, examples.Bookinfo(i.charts, ""))
	t.Logf("ready after %s", time.Since(begin).Round(time.Second))
	i.BookinfoAnswers(t)
	i.Remove(t, g)
}

// chain is a group of applications, each of which needs the one before it.
func (i *installation) chain(group, executor string, length int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: orkestra.azure.microsoft.com/v1alpha1\nkind: ApplicationGroup\nmetadata: {name: %s}\nspec:\n  executor: %s\n  applications:\n", group, executor)
	for n := range length {
		dependencies := ""
		if n > 0 {
			dependencies = fmt.Sprintf("%s-%d", group, n-1)
		}
		fmt.Fprintf(&b, `    - name: %s-%d
      dependencies: [%s]
      spec:
        chart: {url: %q, name: %s, version: 1.0.0}
        release: {targetNamespace: %s, timeout: 2m}
`, group, n, dependencies, i.charts, small, group)
	}
	return []byte(b.String())
}

// executorPods run with the service account and the image that the chart names, as restricted as the rest.
func (i *installation) executorPods(t *testing.T) {
	i.Remove(t, i.RollOut(t, i.chain("pods", "pod", 2)))
}

// doctor finds nothing wrong, by the way that docs/operations.md shows.
func (i *installation) doctor(t *testing.T) {
	if err := stack.BuildServices(t.Context(), i.root, i.Stack.Bin, os.Stdout); err != nil {
		t.Fatal(err)
	}
	nats := i.reader(t)
	args := []string{"doctor", "-o", "json", "--kubeconfig", i.Stack.Kubeconfig, "--nats-url", nats.URL,
		"--nats-ca", nats.CAFile, "--nats-cert", nats.CertFile, "--nats-key", nats.KeyFile}
	out, err := exec.CommandContext(t.Context(), filepath.Join(i.Stack.Bin, "orkestra"), args...).Output()
	var report struct {
		Checks   []struct{ Check, Result, Detail string }
		Findings []struct{ Level, Name, What string }
	}
	if jsonErr := json.Unmarshal(out, &report); jsonErr != nil {
		t.Fatalf("%v: %v: %s", err, jsonErr, out)
	}
	if err != nil || len(report.Findings) > 0 || len(report.Checks) < 10 {
		t.Errorf("want nothing wrong: %v: %+v", err, report)
	}
}

// reader is who may read the bundled bus, from outside of the cluster.
func (i *installation) reader(t *testing.T) events.Options {
	t.Helper()
	dir := t.TempDir()
	var reader corev1.Secret
	if err := i.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "orkestra-nats-reader"}, &reader); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, reader.Data[name], 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return events.Options{
		URL: "tls://localhost:" + i.forwarded(t, "svc/orkestra-nats", "4222"), Source: "orkestra://installation/test",
		CAFile: file("ca.crt"), CertFile: file("tls.crt"), KeyFile: file("tls.key"),
	}
}

var forwarding = regexp.MustCompile(`^Forwarding from 127\.0\.0\.1:(\d+) `)

// forwarded is the port of this machine that kubectl forwards to one of the cluster.
func (i *installation) forwarded(t *testing.T, what, port string) string {
	t.Helper()
	kubectl := exec.Command(filepath.Join(i.Stack.Bin, "kubectl"), "--kubeconfig", i.Stack.Kubeconfig, "--namespace", namespace, "port-forward", what, ":"+port)
	kubectl.Stderr = os.Stderr
	said, err := kubectl.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := kubectl.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kubectl.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := kubectl.Wait(); err == nil {
			t.Error("kubectl port-forward had ended by itself")
		}
	})
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if m := forwarding.FindStringSubmatch(lines.Text()); m != nil {
			return m[1]
		}
	}
	t.Fatal("kubectl port-forward does not say which port it has")
	return ""
}

// uninstalled: what stays is what docs/install.md says.
func (i *installation) uninstalled(t *testing.T) {
	i.uninstall(t)
	// The password of ChartMuseum stays with its disk.
	if err := i.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "orkestra-chartmuseum"}, &corev1.Secret{}); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"data-orkestra-chartmuseum-0", "data-orkestra-nats-0"}, i.claims(t)); diff != "" {
		t.Errorf("claims that stay (-want +got):\n%s", diff)
	}
	var groups v1alpha1.ApplicationGroupList
	if err := i.Client.List(t.Context(), &groups); err != nil {
		t.Errorf("the CRDs are gone: %v", err)
	}
}

func (i *installation) claims(t *testing.T) (out []string) {
	t.Helper()
	var claims corev1.PersistentVolumeClaimList
	if err := i.Client.List(t.Context(), &claims, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	for _, c := range claims.Items {
		out = append(out, c.Name)
	}
	slices.Sort(out)
	return out
}

// mostAtRest is what one process with everything in it may take when nothing happens, in bytes.
const mostAtRest = 150 << 20

// oneProcess is the same in one pod.
func (i *installation) oneProcess(t *testing.T) {
	i.install(t, i.values("single", "info"))
	i.allReady(t, 5)
	i.Remove(t, i.RollOut(t, i.chain("single", "event", 3)))
	realnode.Poll(t, "the process to be at rest", func(ctx context.Context) error {
		rss, err := i.residentSet(ctx, name+"-single")
		if err == nil {
			t.Logf("the process takes %d MiB", rss>>20)
		}
		if err == nil && rss > mostAtRest {
			err = fmt.Errorf("it takes %d MiB", rss>>20)
		}
		return err
	})
	i.uninstall(t)
}

// residentSet of the pod whose name begins so, in bytes, as the kubelet measures it.
func (i *installation) residentSet(ctx context.Context, prefix string) (int64, error) {
	typed, err := kubernetes.NewForConfig(i.Config)
	if err != nil {
		return 0, err
	}
	b, err := typed.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/local/proxy/stats/summary").DoRaw(ctx)
	if err != nil {
		return 0, err
	}
	var summary struct {
		Pods []struct {
			PodRef struct{ Name string }
			Memory struct{ RSSBytes int64 }
		}
	}
	if err := json.Unmarshal(b, &summary); err != nil {
		return 0, err
	}
	for _, p := range summary.Pods {
		if strings.HasPrefix(p.PodRef.Name, prefix) && p.Memory.RSSBytes > 0 {
			return p.Memory.RSSBytes, nil
		}
	}
	return 0, fmt.Errorf("the kubelet has not measured a pod %s-*", prefix)
}

// workflows of a group, by name.
func (i *installation) workflows(t *testing.T, group string) (out []string) {
	t.Helper()
	var list metav1.PartialObjectMetadataList
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: "WorkflowList"})
	if err := i.Client.List(t.Context(), &list, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.LabelOwner: group}); err != nil {
		t.Fatal(err)
	}
	for _, w := range list.Items {
		out = append(out, w.Name)
	}
	return out
}
