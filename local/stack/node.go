package stack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Node is what plays the cluster's one node.
type Node string

const (
	// Simulated: kwok plays the kubelet. Pods are Running at once, and nothing runs. No root is needed.
	Simulated Node = "kwok"
	// Containerd: a kubelet, kube-proxy and containerd of this machine run real pods. It needs root, and there can be one
	// on a machine.
	Containerd Node = "containerd"
)

// What a real node has to itself on the machine. The API server listens on the bridge, since loopback cannot back the
// Service "kubernetes".
const (
	nodeIP     = "10.244.0.1"
	podCIDR    = "10.244.0.0/24"
	bridge     = "orkestra0"
	network    = "orkestra-local"
	kubepods   = "kubepods"
	cgroupRoot = "/sys/fs/cgroup"
	socketName = "containerd.sock"
)

// nodeKnown are the ports, by process and purpose, that are on the bridge's address where everybody has them: NetworkPolicies
// name those of the API server and of DNS.
var nodeKnown = map[string]int{"kube-apiserver/https": 6443, "coredns/dns": 53}

// Set is the flag's value, for --node.
func (n *Node) Set(s string) error {
	if Node(s) != Simulated && Node(s) != Containerd {
		return fmt.Errorf("want %s or %s", Simulated, Containerd)
	}
	*n = Node(s)
	return nil
}

func (n *Node) String() string { return string(*n) }

// Type of the flag's value.
func (n *Node) Type() string { return "node" }

// node is a real node: its files and its images.
type node struct {
	layout layout
	cniBin string
	// tools by name: the paths of containerd and of what it and we call.
	tools map[string]string
	// images by name.
	images map[string]nodeImage
	// dnsPort is where CoreDNS listens on the bridge.
	dnsPort int
}

func (l layout) node(elem ...string) string {
	return filepath.Join(append([]string{l.path("node")}, elem...)...)
}

func (n *node) socket() string { return n.layout.node(socketName) }

// tools that a real node needs, and the packages of Debian and Ubuntu that have them.
var nodeTools = []struct{ name, pkg string }{
	{"containerd", "containerd"}, {"containerd-shim-runc-v2", "containerd"}, {"ctr", "containerd"}, {"runc", "runc"},
	{"ip", "iproute2"}, {"nft", "nftables"}, {"conntrack", "conntrack"}, {"mount", "mount"},
	{"iptables", "iptables"}, {"iptables-save", "iptables"}, {"iptables-restore", "iptables"}, {"ipset", "ipset"},
}

// cniPlugins are looked for where Debian has them, and where others do.
var (
	cniFolders = []string{"/usr/lib/cni", "/opt/cni/bin"}
	cniPlugins = []string{"ptp", "host-local", "loopback"}
)

// preflight looks whether a real node can be had here, and says all that is in the way at once.
func preflight(l layout) (*node, error) {
	n := &node{layout: l, tools: map[string]string{}}
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("it needs root: containers, a bridge and rules of the packet filter are made"))
	}
	var missing, packages []string
	for _, t := range nodeTools {
		path, err := exec.LookPath(t.name)
		if err != nil {
			missing, packages = append(missing, t.name), append(packages, t.pkg)
		}
		n.tools[t.name] = path
	}
	for _, folder := range cniFolders {
		if n.cniBin == "" && !slices.ContainsFunc(cniPlugins, func(p string) bool { return !exists(filepath.Join(folder, p)) }) {
			n.cniBin = folder
		}
	}
	if n.cniBin == "" {
		missing = append(missing, "the CNI plugins "+strings.Join(cniPlugins, ", "))
		packages = append(packages, "containernetworking-plugins")
	}
	if len(missing) > 0 {
		slices.Sort(packages)
		errs = append(errs, fmt.Errorf("%s not found; on Debian and Ubuntu: apt-get install -y --no-install-recommends %s",
			strings.Join(missing, ", "), strings.Join(slices.Compact(packages), " ")))
	}
	// A socket's address holds 107 bytes.
	if len(n.socket()) > 107 {
		errs = append(errs, fmt.Errorf("the folder %s is too deep for a socket in it; choose a shorter --dir", l.dir))
	}
	if l.foreign != "" {
		errs = append(errs, errors.New("--kubeconfig names a cluster that has nodes of its own"))
	}
	errs = append(errs, n.free())
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("a node of containerd: %w", err)
	}
	return n, nil
}

// free is an error where another node has what this one needs for itself.
func (n *node) free() error {
	alias, err := os.ReadFile(filepath.Join("/sys/class/net", bridge, "ifalias"))
	// Where there is none, somebody's up was ended right after making the bridge.
	owner := strings.TrimSpace(string(alias))
	switch {
	case err == nil && owner != "" && owner != n.layout.dir:
		return fmt.Errorf("the stack in %q has a node on this machine already: `orkestra-local down --dir` that one first", owner)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("looking at the bridge %s: %w", bridge, err)
	case err == nil:
		return nil
	}
	pods, err := podCgroups()
	if err == nil && len(pods) > 0 && !exists(n.layout.node()) {
		err = fmt.Errorf("another kubelet runs pods on this machine: there is %s", pods[0])
	}
	return err
}

// up makes what the node's processes need before they start: the bridge and its rules, certificates, and configuration.
func (n *node) up(ctx context.Context, server string, ports nodePorts) error {
	folders := []string{"", "pod-logs", "volume-plugins", "cni-state", filepath.Dir(cniFile), filepath.Dir(hostsFile), "images", "kubelet"}
	for _, dir := range slices.Concat(folders, disks()) {
		if err := os.MkdirAll(n.layout.node(dir), 0o700); err != nil {
			return fmt.Errorf("making the node's folder: %w", err)
		}
	}
	if err := n.connect(ctx); err != nil {
		return err
	}
	if err := n.certify(server, time.Now()); err != nil {
		return err
	}
	return n.configure(ports)
}

// nodePorts on loopback, and those of the kubelet and of DNS on the bridge.
type nodePorts struct{ Containerd, Kubelet, KubeletHealth, ProxyHealth, ProxyMetrics, Policies, DNS, DNSReady int }

func (p *planner) nodePorts() nodePorts {
	return nodePorts{
		Containerd: p.port("containerd", "metrics"), Kubelet: p.port("kubelet", "https"), KubeletHealth: p.port("kubelet", "health"),
		ProxyHealth: p.port("kube-proxy", "health"), ProxyMetrics: p.port("kube-proxy", "metrics"),
		Policies: p.port("kube-router", "health"), DNS: p.port("coredns", "dns"), DNSReady: p.port("coredns", "ready"),
	}
}

// makeNode makes the real node that the stack is to have.
func (p *planner) makeNode(ctx context.Context) error {
	var err error
	if p.node, err = preflight(p.layout); err != nil {
		return err
	}
	ports := p.nodePorts()
	if p.err != nil {
		return p.err
	}
	if p.node.images, err = readImages(p.layout); err != nil {
		return err
	}
	p.node.dnsPort = ports.DNS
	if err := p.node.up(ctx, p.apiserverURL(), ports); err != nil {
		return fmt.Errorf("making the node: %w", err)
	}
	return nil
}

// nodeSpecs are the processes of a real node. The addons may read nothing until the node is furnished.
func (p *planner) nodeSpecs() (containerd spec, agents, addons []spec) {
	ports := p.nodePorts()
	inputs := func(files ...string) string {
		for i := range files {
			files[i] = p.layout.node(files[i])
		}
		sum, err := digest(files...)
		p.err = errors.Join(p.err, err)
		return sum
	}
	kube, id := p.binary(filepath.Join(p.bin, "kube"))
	path, containerdID := p.binary(p.node.tools["containerd"])
	resolver, resolverID := p.binary(filepath.Join(p.bin, coreDNS.binary))
	policies, policiesID := p.binary(filepath.Join(p.bin, kubeRouter.binary))
	containerd = spec{
		Name: "containerd", Binary: containerdID, Rank: ranksAPI, Ports: []int{ports.Containerd},
		Inputs:  inputs("containerd.toml", cniFile, hostsFile),
		Health:  "http://" + loopback(ports.Containerd) + "/v1/metrics",
		Command: []string{path, "--config", p.layout.node("containerd.toml")},
	}
	addons = []spec{
		{
			Name: "coredns", Binary: resolverID, Rank: ranksCluster, Ports: []int{ports.DNS, ports.DNSReady},
			Inputs: inputs("Corefile", "coredns.kubeconfig"),
			// It is ready when it has seen all Services.
			Health:  "http://" + loopback(ports.DNSReady) + "/ready",
			Command: []string{resolver, "-conf", p.layout.node("Corefile")},
		}, {
			Name: "kube-router", Binary: policiesID, Rank: ranksCluster, Ports: []int{ports.Policies},
			Inputs: inputs("kube-router.kubeconfig"),
			Health: "http://" + loopback(ports.Policies) + "/healthz",
			Command: []string{policies, "--kubeconfig", p.layout.node("kube-router.kubeconfig"), "--hostname-override", nodeName,
				"--service-cluster-ip-range", serviceCIDR, "--health-addr", loopback(ports.Policies)},
		},
	}
	return containerd, []spec{
		{
			Name: "kubelet", Binary: id, Rank: ranksCluster, Ports: []int{ports.Kubelet, ports.KubeletHealth},
			Inputs: inputs("kubelet.yaml", "kubelet.kubeconfig"),
			Health: "http://" + loopback(ports.KubeletHealth) + "/healthz",
			Command: []string{kube, "kubelet", "--config", p.layout.node("kubelet.yaml"), "--kubeconfig", p.layout.node("kubelet.kubeconfig"),
				"--root-dir", p.layout.node("kubelet"), "--hostname-override", nodeName, "--node-ip", nodeIP},
		}, {
			Name: "kube-proxy", Binary: id, Rank: ranksCluster, Ports: []int{ports.ProxyHealth, ports.ProxyMetrics},
			Inputs:  inputs("kube-proxy.yaml", "kube-proxy.kubeconfig"),
			Health:  "http://" + loopback(ports.ProxyHealth) + "/livez",
			Command: []string{kube, "kube-proxy", "--config", p.layout.node("kube-proxy.yaml")},
		},
	}, addons
}

// address that the API server listens on.
func (p *planner) address() string {
	if p.node != nil {
		return nodeIP
	}
	return "127.0.0.1"
}

// nodeFlags of the API server.
func (p *planner) nodeFlags() []string {
	if p.node == nil {
		// Loopback may not back the Service "kubernetes", and nothing would reach it if it did: there is no kube-proxy.
		return []string{"--endpoint-reconciler-type", "none", "--tls-cert-file", p.pki("apiserver.crt"), "--tls-private-key-file", p.pki("apiserver.key")}
	}
	return []string{"--enable-admission-plugins", "NodeRestriction", "--kubelet-preferred-address-types", "InternalIP",
		"--tls-cert-file", p.layout.node("apiserver.crt"), "--tls-private-key-file", p.layout.node("apiserver.key"),
		"--kubelet-client-certificate", p.pki("admin.crt"), "--kubelet-client-key", p.pki("admin.key"),
		"--kubelet-certificate-authority", p.pki("ca.crt")}
}

// argoexec is the image that Argo puts beside the containers of its pods.
func (p *planner) argoexec() string {
	if p.node == nil {
		// No image can be had there, and pods are simulated anyway.
		return "argoexec.invalid/argoexec:" + argoVersion
	}
	return p.node.images["argoexec"].Reference
}
