package stack

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

const (
	serviceCIDR      = "10.96.0.0/16"
	serviceClusterIP = "10.96.0.1" // of the Service "kubernetes", the first of the range
)

// plan is what is to run: values, made from options, ports and what was built. Those of one group start side by side.
type plan struct {
	stores      []spec // what needs nothing else
	kubernetes  []spec // etcd and the API server
	cluster     []spec // what makes of an API server a cluster
	addons      []spec // of a real node, for its pods: DNS, and who enforces NetworkPolicies
	controllers []spec // Flux's and Argo's
	services    []spec // ours

	node *node // a real one; nil: it is simulated

	// webhookURL is where the API server asks about groups; empty: nowhere.
	webhookURL string
}

// has tells whether a process is to run.
func (p plan) has(name string) bool {
	return slices.ContainsFunc(slices.Concat(p.stores, p.kubernetes, p.cluster, p.addons, p.controllers, p.services),
		func(s spec) bool { return s.Name == name })
}

// planner gathers what specs are made of. The first error sticks, so that the specs below read as lists of flags.
type planner struct {
	layout
	ports *ports
	// inputs identifies the content of the certificates and of the kubeconfig: who was started with others is restarted.
	inputs string
	// node is a real one, nil where it is simulated.
	node *node
	err  error
}

func (p *planner) port(process, purpose string) int {
	if port := nodeKnown[process+"/"+purpose]; port != 0 && p.node != nil {
		return port
	}
	port, err := p.ports.get(process, purpose)
	p.err = errors.Join(p.err, err)
	return port
}

// binary is the path of an executable and what identifies its content: the stamp of a server, the digest of one of ours.
func (p *planner) binary(path string) (string, string) {
	b, err := os.ReadFile(stampFile(p.bin, filepath.Base(path)))
	if err == nil {
		return path, string(b)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		p.err = errors.Join(p.err, fmt.Errorf("identifying %s: %w", path, err))
		return path, ""
	}
	digest, err := digest(path)
	p.err = errors.Join(p.err, err)
	return path, digest
}

// digest identifies the content of files.
func digest(paths ...string) (string, error) {
	h := sha256.New()
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("identifying a file: %w", err)
		}
		n, err := io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", fmt.Errorf("identifying %s: %w", path, err)
		}
		fmt.Fprintf(h, "\n%d\n", n)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// apiserverURL is where our own API server is.
func (p *planner) apiserverURL() string {
	return fmt.Sprintf("https://%s:%d", p.address(), p.port("kube-apiserver", "https"))
}

// plan says how all of it runs. Everything listens on 127.0.0.1, and nothing elects a leader.
func (p *planner) plan(o Options) plan {
	nats, chartmuseum := p.nats(max(1, o.NATS)), p.chartmuseum()
	natsURL := nats[0].Exports["NATS_URL"]
	out := plan{node: p.node}
	if !o.KubernetesOnly {
		out.stores = append(nats, chartmuseum)
		out.controllers = []spec{p.sourceController(), p.flux("helm-controller"), p.workflowController(o.RequeueTime)}
	}
	if p.foreign == "" {
		etcd, etcdURL := p.etcd()
		out.kubernetes = []spec{etcd, p.apiserver(etcdURL, o.Audit)}
		out.cluster = []spec{
			p.component("kube-controller-manager", "--service-account-private-key-file", p.pki("sa.key"),
				"--root-ca-file", p.pki("ca.crt"), "--use-service-account-credentials", "--concurrent-deployment-syncs", "20"),
			p.component("kube-scheduler"),
		}
		if p.node == nil {
			out.cluster = append(out.cluster, p.kwok())
		} else {
			containerd, agents, addons := p.nodeSpecs()
			out.stores, out.cluster, out.addons = append(out.stores, containerd), append(out.cluster, agents...), addons
		}
	}
	for _, specs := range [][]spec{out.stores, out.kubernetes, out.cluster, out.addons, out.controllers} {
		for i := range specs {
			specs[i].Command = append(specs[i].Command, o.ServerArgs[specs[i].Name]...)
		}
	}
	for _, server := range slices.Sorted(maps.Keys(o.ServerArgs)) {
		if !out.has(server) {
			p.err = errors.Join(p.err, fmt.Errorf("flags for %q: the stack has no such server", server))
		}
	}
	if o.Services {
		var webhook string
		out.services, webhook = p.planServices(o, natsURL, chartmuseum.Exports["CHARTMUSEUM_URL"])
		out.services = append(out.services, p.topology(natsURL, len(nats)))
		if p.foreign == "" {
			out.webhookURL = webhook
		}
	}
	return out
}

func (p *planner) chartmuseum() spec {
	port := p.port("chartmuseum", "http")
	path, id := p.binary(filepath.Join(p.bin, "chartmuseum"))
	return spec{
		Name: "chartmuseum", Binary: id, Inputs: p.inputs, Rank: ranksStorage, Ports: []int{port},
		Health: "http://" + loopback(port) + "/health",
		// Depth 1: a repository for each group. Overwriting stays refused, which is ChartMuseum's default. Without state
		// files: a ChartMuseum that is killed while it writes one answers with 500 until somebody removes it.
		Command: []string{path, "--listen-host=127.0.0.1", "--port=" + strconv.Itoa(port), "--depth=1",
			"--disable-statefiles", "--storage=local", "--storage-local-rootdir=" + p.data("charts"),
			"--config=" + p.museum("config.yaml")},
		Exports: map[string]string{"CHARTMUSEUM_URL": "http://" + loopback(port), "CHARTMUSEUM_CREDENTIALS": p.museum()},
	}
}

func (p *planner) etcd() (s spec, url string) {
	client, peer := p.port("etcd", "client"), p.port("etcd", "peer")
	url, peerURL := "http://"+loopback(client), "http://"+loopback(peer)
	path, id := p.binary(filepath.Join(p.bin, "kube"))
	return spec{
		Name: "etcd", Binary: id, Rank: ranksStorage, Ports: []int{client, peer}, Health: url + "/health",
		Command: []string{path, "etcd", "--data-dir", p.data("etcd"),
			"--listen-client-urls", url, "--advertise-client-urls", url,
			"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL, "--initial-cluster", "default=" + peerURL,
			// A machine that loses power loses a playground.
			"--unsafe-no-fsync", "--logger", "zap", "--log-level", "warn"},
	}, url
}

func (p *planner) apiserver(etcdURL string, audit bool) spec {
	port := p.port("kube-apiserver", "https")
	path, id := p.binary(filepath.Join(p.bin, "kube"))
	s := spec{
		Name: "kube-apiserver", Binary: id, Inputs: p.inputs, Rank: ranksAPI, Ports: []int{port},
		Health: p.apiserverURL() + "/readyz",
		Command: []string{path, "kube-apiserver", "--bind-address", p.address(), "--secure-port", strconv.Itoa(port),
			"--advertise-address", p.address(),
			"--etcd-servers", etcdURL, "--service-cluster-ip-range", serviceCIDR, "--allow-privileged",
			"--authorization-mode", "Node,RBAC", "--client-ca-file", p.pki("ca.crt"),
			"--service-account-issuer", "https://kubernetes.default.svc",
			"--service-account-key-file", p.pki("sa.pub"), "--service-account-signing-key-file", p.pki("sa.key"),
			"--profiling=false", "--max-requests-inflight", "800", "--max-mutating-requests-inflight", "400"},
	}
	s.Command = append(s.Command, p.nodeFlags()...)
	if audit {
		s.Command = append(s.Command, p.audit()...)
	}
	return s
}

// component is what the controller manager and the scheduler have in common.
func (p *planner) component(name string, flags ...string) spec {
	port := p.port(name, "https")
	path, id := p.binary(filepath.Join(p.bin, "kube"))
	return spec{
		Name: name, Binary: id, Inputs: p.inputs, Rank: ranksCluster, Ports: []int{port},
		Health: "https://" + loopback(port) + "/healthz",
		Command: append([]string{path, name, "--kubeconfig", p.kubeconfig(),
			"--bind-address", "127.0.0.1", "--secure-port", strconv.Itoa(port),
			"--tls-cert-file", p.pki("component.crt"), "--tls-private-key-file", p.pki("component.key"),
			"--leader-elect=false"}, flags...),
	}
}

// kwok plays the kubelet of the one node.
func (p *planner) kwok() spec {
	port := p.port("kwok", "http")
	path, id := p.binary(filepath.Join(p.bin, "kwok"))
	s := spec{
		Name: "kwok", Binary: id, Inputs: p.inputs, Rank: ranksCluster, Ports: []int{port},
		Health: "http://" + loopback(port) + "/healthz",
		Command: []string{path, "--kubeconfig", p.kubeconfig(), "--server-address", loopback(port),
			// Without leases the node, and its pods with it, would turn NotReady after 40 s.
			"--manage-all-nodes=true", "--node-lease-duration-seconds=40"},
	}
	for _, stage := range p.manifests("kwok") {
		s.Command = append(s.Command, "--config", stage)
	}
	return s
}

// flux is what Flux's controllers have in common. Ten at once is what Flux's own benchmark runs with; the rest are their
// defaults, so that what is measured here is what people have.
func (p *planner) flux(name string) spec {
	health, metrics := p.port(name, "health"), p.port(name, "metrics")
	path, id := p.binary(filepath.Join(p.bin, name))
	return spec{
		Name: name, Binary: id, Inputs: p.inputs, Rank: ranksControllers, Ports: []int{health, metrics},
		Health: "http://" + loopback(health) + "/readyz",
		Command: []string{path, "--health-addr", loopback(health), "--metrics-addr", loopback(metrics), "--concurrent=10",
			"--enable-leader-election=false", "--events-addr=", "--log-level=info"},
		Env: []string{"KUBECONFIG=" + p.kubeconfig(), "RUNTIME_NAMESPACE=" + fluxNamespace,
			// Where the keys for verifying signatures are kept; the default is the home of root.
			"TUF_ROOT=" + p.path("home", ".sigstore")},
		Exports: map[string]string{variable(name) + "_METRICS_URL": "http://" + loopback(metrics) + "/metrics"},
	}
}

func (p *planner) sourceController() spec {
	s := p.flux("source-controller")
	artifacts := p.port(s.Name, "artifacts")
	s.Ports = append(s.Ports, artifacts)
	s.Command = append(s.Command, "--storage-path", p.data("source"),
		"--storage-addr", loopback(artifacts), "--storage-adv-addr", loopback(artifacts))
	return s
}

func (p *planner) workflowController(requeue time.Duration) spec {
	port := p.port("workflow-controller", "health")
	path, id := p.binary(filepath.Join(p.bin, "workflow-controller"))
	return spec{
		Name: "workflow-controller", Binary: id, Inputs: p.inputs, Rank: ranksControllers, Ports: []int{port},
		Health: "http://" + loopback(port) + "/healthz",
		Command: []string{path, "--kubeconfig", p.kubeconfig(), "--namespace", Namespace, "--health-addr", loopback(port),
			"--executor-image", p.argoexec(),
			// Argo's defaults (20 and 30) are for a shared API server; this one is ours.
			"--qps", "400", "--burst", "800"},
		Env: []string{"DEFAULT_REQUEUE_TIME=" + cmp.Or(requeue, 100*time.Millisecond).String()},
		// Said here, as what is recorded about a process outlives the options that it was started with.
		Exports: map[string]string{"KUBECONFIG": p.kubeconfig()},
	}
}

// manifests are the files that the build of a server has laid beside the executables.
func (p *planner) manifests(module string) []string {
	files, err := filepath.Glob(filepath.Join(p.share, module, "*.yaml"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("finding the manifests of %s: none in %s", module, filepath.Join(p.share, module))
	}
	p.err = errors.Join(p.err, err)
	return files
}
