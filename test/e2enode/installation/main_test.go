// Package installation installs the chart on a node that is real: our services and all that they need are pods there, of the
// images that tools/images builds. It needs root, and what `orkestra-local up --node containerd` asks for.
package installation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/cli"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/examples"
	"orkestra.dev/local/stack"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/test/e2enode/realnode"
	"orkestra.dev/test/repository"
)

const (
	name      = "orkestra"
	namespace = "orkestra"
	// small is a chart of one ConfigMap.
	small = "small"
)

// values of a chart.
type values = map[string]any

// installation of the chart on a cluster that has nothing else in it.
type installation struct {
	*realnode.Cluster
	root  string
	chart *chart.Chart
	// repository of charts, and its URL for pods.
	repository *repository.Server
	charts     string
}

// smallFiles are those of the chart small.
var smallFiles = repository.Files{
	"templates/configmap.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {of: {{ .Release.Name }}}\n",
}

// begin brings a cluster up, and a chart repository beside it. They go when all went well.
func begin(t *testing.T) *installation {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Minute)
	defer cancel()
	i := &installation{root: root}
	if i.chart, err = loader.Load(filepath.Join(root, "deploy", "charts", "orkestra")); err != nil {
		t.Fatal(err)
	}
	i.Cluster, err = realnode.Up(ctx, stack.Options{
		Root: root, Dir: filepath.Join(root, ".local", "e2e-node"), Log: os.Stdout,
		Node: stack.Containerd, KubernetesOnly: true, Images: []string{"orkestra", "servers"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("CI") == "" {
			t.Log("the stack is left running for a look; `go run ./local/cmd/orkestra-local down --wipe --dir .local/e2e-node` takes it down")
			return
		}
		if err := i.Down(); err != nil {
			t.Error(err)
		}
	})
	i.serve(t)
	// The namespace refuses pods that do not keep to the standard.
	if err := i.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: namespace, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}); err != nil {
		t.Fatal(err)
	}
	return i
}

// serve charts at the address that the API server has as well, which pods reach.
func (i *installation) serve(t *testing.T) {
	t.Helper()
	charts := repository.New()
	t.Cleanup(charts.Close)
	list, err := examples.Charts()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		unpacked, err := archive.Unpack(c.Archive)
		if err != nil {
			t.Fatal(err)
		}
		files := repository.Files{}
		for _, f := range unpacked {
			files[f.Name] = string(f.Data)
		}
		if err := charts.Add(c.Name, c.Version, files); err != nil {
			t.Fatal(err)
		}
	}
	if err := charts.Add(small, "1.0.0", smallFiles); err != nil {
		t.Fatal(err)
	}
	apiServer, err := url.Parse(i.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(apiServer.Hostname(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: charts, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	i.repository, i.charts = charts, "http://"+listener.Addr().String()
}

// values of every installation here: images as `make images` tags them, and charts from an address that is not of the
// public internet.
func (i *installation) values(mode, logLevel string) values {
	private := values{"args": []any{"--allow-private-registries"}}
	out := values{"mode": mode, "image": values{"tag": "dev"}, "log": values{"level": logLevel}}
	if mode == "single" {
		out["single"] = private
	} else {
		out["services"] = values{"stager": private}
	}
	return out
}

// helm is Helm as its command line uses it.
func (i *installation) helm(t *testing.T) *action.Configuration {
	t.Helper()
	settings := cli.New()
	settings.KubeConfig = i.Stack.Kubeconfig
	settings.SetNamespace(namespace)
	cfg := new(action.Configuration)
	if err := cfg.Init(settings.RESTClientGetter(), namespace, "secret", func(string, ...any) {}); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// install the chart and wait, as `helm install --wait` does.
func (i *installation) install(t *testing.T, v values) {
	t.Helper()
	i.installChart(t, i.chart, v)
}

func (i *installation) installChart(t *testing.T, c *chart.Chart, v values) {
	t.Helper()
	install := action.NewInstall(i.helm(t))
	install.ReleaseName, install.Namespace, install.Wait, install.Timeout = name, namespace, true, realnode.Patience
	if _, err := install.RunWithContext(t.Context(), c, v); err != nil {
		t.Fatalf("installing: %v\n%s", err, strings.Join(i.pods(t), "\n"))
	}
}

// upgrade to other values.
func (i *installation) upgrade(t *testing.T, v values, wait bool) {
	t.Helper()
	upgrade := action.NewUpgrade(i.helm(t))
	upgrade.Namespace, upgrade.Wait, upgrade.Timeout = namespace, wait, realnode.Patience
	if _, err := upgrade.RunWithContext(t.Context(), name, i.chart, v); err != nil {
		t.Fatalf("upgrading: %v\n%s", err, strings.Join(i.pods(t), "\n"))
	}
}

// uninstall the release, and wait until its pods are gone.
func (i *installation) uninstall(t *testing.T) {
	t.Helper()
	uninstall := action.NewUninstall(i.helm(t))
	uninstall.Wait, uninstall.Timeout = true, realnode.Patience
	if _, err := uninstall.Run(name); err != nil {
		t.Fatalf("uninstalling: %v", err)
	}
	realnode.Poll(t, "pods of the release to go", func(context.Context) error {
		if left := i.pods(t); len(left) > 0 {
			return fmt.Errorf("there are %q", left)
		}
		return nil
	})
}

// podsOf are the pods of the release that have not come to their end.
func (i *installation) podsOf(t *testing.T) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	if err := i.Client.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
}

// pods in a line each: what they are, and what they say.
func (i *installation) pods(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, p := range i.podsOf(t) {
		line := p.Name + " " + string(p.Status.Phase)
		for _, c := range p.Status.ContainerStatuses {
			line += fmt.Sprintf(" %s ready=%v restarts=%d", c.Name, c.Ready, c.RestartCount)
			if c.State.Waiting != nil {
				line += " " + c.State.Waiting.Reason
			}
		}
		out = append(out, line)
	}
	return out
}
