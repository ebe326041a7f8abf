package installation

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/test/e2enode/realnode"
)

// component of a pod of the release.
func component(p corev1.Pod) string { return p.Labels["app.kubernetes.io/component"] }

// aPod of a component that is ready.
func (i *installation) aPod(t *testing.T, of string) corev1.Pod {
	t.Helper()
	pods := slices.DeleteFunc(i.podsOf(t), func(p corev1.Pod) bool { return component(p) != of || p.DeletionTimestamp != nil })
	if len(pods) == 0 {
		t.Fatalf("no pod of %s: %q", of, i.pods(t))
	}
	return pods[0]
}

// stranger is a pod of somebody else.
func (i *installation) stranger(t *testing.T) corev1.Pod {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "stranger"},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: new(false),
			Containers:                   []corev1.Container{{Name: "stranger", Image: "docker.io/library/nginx:1.29-alpine", ImagePullPolicy: corev1.PullIfNotPresent}},
		},
	}
	realnode.Poll(t, "the service account of the namespace", func(ctx context.Context) error {
		return i.Client.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: "default"}, &corev1.ServiceAccount{})
	})
	if err := i.Client.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Client.Delete(context.WithoutCancel(t.Context()), p, client.GracePeriodSeconds(0)); err != nil {
			t.Error(err)
		}
	})
	realnode.Poll(t, "a pod of somebody else to run", func(ctx context.Context) error {
		if err := i.Client.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
			return err
		}
		if p.Status.Phase != corev1.PodRunning {
			return fmt.Errorf("it is %s", p.Status.Phase)
		}
		return nil
	})
	return *p
}

// doors are what listens, and which of those who knock are let in.
var doors = []struct {
	component string
	port      int
	open      []string
}{
	{"nats", 4222, []string{"intake", "stager", "compiler", "executor", "watcher"}},
	{"nats", 8222, nil},
	{"chartmuseum", 8080, []string{"stager"}},
	{"stager", 9790, []string{"helm-controller"}},
	{"source-controller", 9090, []string{"helm-controller"}},
	// The API server and webhooks call from anywhere; probes are the kubelet's.
	{"intake", 9443, []string{"stranger", "stager", "workflow-controller", "helm-controller", "source-controller"}},
	{"intake", 9292, []string{"stranger", "stager", "workflow-controller", "helm-controller", "source-controller"}},
	{"intake", 8081, nil},
	{"stager", 8081, nil},
}

// bounded: the policies are enforced here, so each door is tried by everyone.
func (i *installation) bounded(t *testing.T) {
	knocking := map[string]corev1.Pod{"stranger": i.stranger(t)}
	for _, c := range []string{"intake", "stager", "compiler", "executor", "watcher", "nats", "chartmuseum", "workflow-controller", "helm-controller", "source-controller"} {
		knocking[c] = i.aPod(t, c)
	}
	for _, d := range doors {
		behind := i.aPod(t, d.component)
		address := net.JoinHostPort(behind.Status.PodIP, strconv.Itoa(d.port))
		// Somebody listens: the node itself is always let in.
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Errorf("port %d of %s: %v", d.port, d.component, err)
			continue
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		for who, pod := range knocking {
			if pod.Name == behind.Name {
				continue
			}
			i.knock(t, who, pod, fmt.Sprintf("port %d of %s", d.port, d.component), address, slices.Contains(d.open, who))
		}
	}
	// The world outside, of which the repository of this test is a part, is for who fetches charts.
	repository, err := url.Parse(i.charts)
	if err != nil {
		t.Fatal(err)
	}
	for who, pod := range knocking {
		i.knock(t, who, pod, "a server outside", repository.Host,
			slices.Contains([]string{"stager", "stranger", "workflow-controller", "helm-controller", "source-controller"}, who))
	}
	i.unbounded(t, knocking["stranger"])
}

// knock at a door that is open, or is not.
func (i *installation) knock(t *testing.T, who string, pod corev1.Pod, what, address string, open bool) {
	t.Helper()
	err := realnode.Dial(t, pod, address)
	if open && err != nil {
		t.Errorf("%s does not reach %s: %v", who, what, err)
	}
	if !open && !realnode.IsRefused(err) {
		t.Errorf("%s reaches %s: %v", who, what, err)
	}
}

// unbounded: it is the policy that keeps a stranger out.
func (i *installation) unbounded(t *testing.T, stranger corev1.Pod) {
	policy := &networkingv1.NetworkPolicy{}
	key := client.ObjectKey{Namespace: namespace, Name: "orkestra-chartmuseum"}
	if err := i.Client.Get(t.Context(), key, policy); err != nil {
		t.Fatal(err)
	}
	if err := i.Client.Delete(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort(i.aPod(t, "chartmuseum").Status.PodIP, "8080")
	realnode.Poll(t, "ChartMuseum to be open to everyone", func(context.Context) error { return realnode.Dial(t, stranger, address) })
	policy.ResourceVersion, policy.UID = "", ""
	if err := i.Client.Create(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	realnode.Poll(t, "ChartMuseum to be closed again", func(context.Context) error {
		if err := realnode.Dial(t, stranger, address); !realnode.IsRefused(err) {
			return fmt.Errorf("it is not: %w", err)
		}
		return nil
	})
}
