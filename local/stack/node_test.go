package stack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Only what is mounted in the node's own folder is unmounted, in the order in which it was mounted.
func TestMountPoints(t *testing.T) {
	table := []byte(`36 35 98:0 / / rw,noatime shared:1 - ext4 /dev/root rw
40 36 0:40 / /a/node/kubelet/pods/1/volumes/token rw shared:2 - tmpfs tmpfs rw
41 36 0:41 / /a/node/state/rootfs\040of\0401 rw shared:3 - overlay overlay rw
42 36 0:42 / /a/nodes/other rw shared:4 - tmpfs tmpfs rw
43 36 0:43 / /a/node rw shared:5 - tmpfs tmpfs rw
short
`)
	want := []string{"/a/node/kubelet/pods/1/volumes/token", "/a/node/state/rootfs of 1"}
	if diff := cmp.Diff(want, mountPoints(table, "/a/node")); diff != "" {
		t.Errorf("mount points (-want +got):\n%s", diff)
	}
}

// A shim is killed only where it speaks to the containerd of this node.
func TestIsShim(t *testing.T) {
	const socket = "/a/node/containerd.sock"
	for _, c := range []struct {
		args []string
		want bool
	}{
		{[]string{"/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-id", "x", "-address", socket}, true},
		{[]string{"/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-id", "x", "-address", "/run/containerd/containerd.sock"}, false},
		{[]string{"grep", "-address", socket}, false},
		{[]string{"containerd-shim-runc-v2", "-address"}, false},
		{[]string{""}, false},
	} {
		if got := isShim([]byte(strings.Join(c.args, "\x00")+"\x00"), socket); got != c.want {
			t.Errorf("%q: %v, want %v", c.args, got, c.want)
		}
	}
}

// A node says all that is in its way at once, and how to mend it.
func TestPreflightSaysWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep", 30))
	_, err := preflight(layout{dir: dir, foreign: "kind.kubeconfig"})
	if err == nil {
		t.Fatal("a node can be had without containerd")
	}
	for _, want := range []string{"containerd, ", "apt-get install -y --no-install-recommends", "nftables", "--dir", "--kubeconfig"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

// Of a table of iptables only what kube-router has made goes.
func TestWithoutPolicies(t *testing.T) {
	const table = `*filter
:INPUT ACCEPT [0:0]
:KUBE-NWPLCY-DEFAULT - [0:0]
:KUBE-POD-FW-A5 - [0:0]
:KUBE-ROUTER-INPUT - [0:0]
:THEIRS - [0:0]
-A INPUT -m comment --comment "kube-router netpol - X" -j KUBE-ROUTER-INPUT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -s 10.244.0.10/32 -j KUBE-POD-FW-A5
-A KUBE-ROUTER-INPUT -d 10.96.0.0/16 -j RETURN
COMMIT
`
	want := `*filter
:INPUT ACCEPT [0:0]
:THEIRS - [0:0]
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
`
	if diff := cmp.Diff(want, withoutPolicies([]byte(table))); diff != "" {
		t.Errorf("the table (-want +got):\n%s", diff)
	}
}

// The node's files are whole: nothing of a template is left in them, and the ports are in the right ones.
func TestConfigure(t *testing.T) {
	n := &node{layout: layout{dir: t.TempDir()}, cniBin: "/cni", images: map[string]nodeImage{"pause": {Reference: "example.com/pause:v1"}}}
	for _, file := range []string{hostsFile, cniFile} {
		if err := os.MkdirAll(filepath.Dir(n.layout.node(file)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.configure(nodePorts{Containerd: 1001, Kubelet: 1002, KubeletHealth: 1003, ProxyHealth: 1004, ProxyMetrics: 1005, DNS: 1006, DNSReady: 1007}); err != nil {
		t.Fatal(err)
	}
	for file, wants := range map[string][]string{
		"containerd.toml": {`"127.0.0.1:1001"`, `sandbox_image = "example.com/pause:v1"`, `bin_dir = "/cni"`, n.socket()},
		"kubelet.yaml":    {"port: 1002\n", "healthzPort: 1003\n", n.layout.pki("ca.crt"), "unix://" + n.socket(), "clusterDNS: [" + dnsClusterIP + "]"},
		"Corefile":        {".:1006 {", "bind " + nodeIP + "\n", "ready 127.0.0.1:1007\n", n.layout.node("coredns.kubeconfig")},
		"kube-proxy.yaml": {"healthzBindAddress: 127.0.0.1:1004\n", "metricsBindAddress: 127.0.0.1:1005\n"},
		cniFile:           {n.layout.node("cni-state")},
	} {
		b, err := os.ReadFile(n.layout.node(file))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range append(wants, "") {
			if !strings.Contains(string(b), want) || strings.Contains(string(b), "{{") || strings.Contains(string(b), "<no value>") {
				t.Errorf("%s has no %q, or something of its template:\n%s", file, want, b)
			}
		}
	}
}

// Pods are sent to where CoreDNS listens, over UDP and over TCP.
func TestDNSObjects(t *testing.T) {
	want := map[string]string{"dns": "UDP 10.96.0.10:53 10.244.0.1:1006", "dns-tcp": "TCP 10.96.0.10:53 10.244.0.1:1006"}
	objects := dnsObjects(1006)
	service, endpoints := objects[0].(*corev1.Service), objects[1].(*discoveryv1.EndpointSlice)
	got := map[string]string{}
	for i, p := range service.Spec.Ports {
		e := endpoints.Ports[i]
		if *e.Name != p.Name || *e.Protocol != p.Protocol {
			t.Errorf("port %s of the Service has %s %s behind it", p.Name, *e.Protocol, *e.Name)
		}
		got[p.Name] = fmt.Sprintf("%s %s:%d %s:%d", p.Protocol, service.Spec.ClusterIP, p.Port, endpoints.Endpoints[0].Addresses[0], *e.Port)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("DNS (-want +got):\n%s", diff)
	}
}

// An empty cluster has no services of ours: who asks for both is told.
func TestKubernetesOnlyIsAlone(t *testing.T) {
	if _, err := Up(t.Context(), Options{Root: t.TempDir(), KubernetesOnly: true, Services: true}); err == nil || !strings.Contains(err.Error(), "KubernetesOnly") {
		t.Errorf("want a refusal that says KubernetesOnly: %v", err)
	}
}
