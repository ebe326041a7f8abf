package stack

import (
	"bytes"
	"fmt"
	"os"
	"text/template"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Files of the node's folder.
const (
	cniFile   = "cni/10-" + network + ".conflist"
	hostsFile = "certs.d/_default/hosts.toml"
)

// nodeFiles are the configuration of containerd, of its network, of the node's agents, and of the cluster's DNS.
var nodeFiles = map[string]string{
	// Without CAP_SYS_RESOURCE runc dies of a negative oom score. Processes that are not root may listen on port 80 of
	// their own network, as images of web servers do.
	"containerd.toml": `version = 2
root = "{{.Dir}}/images/content"
state = "{{.Dir}}/state"
oom_score = 0
[grpc]
  address = "{{.Socket}}"
[metrics]
  address = "127.0.0.1:{{.Ports.Containerd}}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{{.Pause}}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  enable_unprivileged_ports = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{{.Dir}}/state/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{{.CNIBin}}"
    conf_dir = "{{.Dir}}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{{.Dir}}/certs.d"
`,
	// An image that was not imported fails at once, instead of reaching out.
	hostsFile: "server = \"http://127.0.0.1:1\"\n",
	cniFile: `{
  "cniVersion": "1.0.0", "name": "` + network + `",
  "plugins": [{
    "type": "ptp", "ipMasq": false,
    "ipam": {
      "type": "host-local", "dataDir": "{{.Dir}}/cni-state", "routes": [{"dst": "0.0.0.0/0"}],
      "ranges": [[{"subnet": "` + podCIDR + `", "rangeStart": "10.244.0.10", "gateway": "` + nodeIP + `"}]]
    }
  }]
}
`,
	"resolv.conf": "",
	"kubelet.yaml": `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: ` + nodeIP + `
port: {{.Ports.Kubelet}}
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
healthzPort: {{.Ports.KubeletHealth}}
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true, cacheTTL: 10s}
  x509: {clientCAFile: {{.CA}}}
authorization: {mode: Webhook}
tlsCertFile: {{.Dir}}/kubelet.crt
tlsPrivateKeyFile: {{.Dir}}/kubelet.key
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
resolvConf: {{.Dir}}/resolv.conf
clusterDNS: [` + dnsClusterIP + `]
clusterDomain: ` + clusterDomain + `
containerRuntimeEndpoint: unix://{{.Socket}}
podLogsDir: {{.Dir}}/pod-logs
volumePluginDir: {{.Dir}}/volume-plugins
oomScoreAdj: 0
maxOpenFiles: 20000
maxPods: 200
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%, imagefs.inodesFree: 1%}
enforceNodeAllocatable: [pods]
makeIPTablesUtilChains: false
`,
	"kube-proxy.yaml": `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: {{.Dir}}/kube-proxy.kubeconfig}
hostnameOverride: ` + nodeName + `
bindAddress: ` + nodeIP + `
metricsBindAddress: 127.0.0.1:{{.Ports.ProxyMetrics}}
healthzBindAddress: 127.0.0.1:{{.Ports.ProxyHealth}}
nodePortAddresses: [` + podCIDR + `]
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpCloseWaitTimeout: 0s, tcpEstablishedTimeout: 0s}
`,
	// What is not of the cluster is asked of whom this machine asks. That is never this server, so there is no loop.
	"Corefile": `.:{{.Ports.DNS}} {
  bind ` + nodeIP + `
  errors
  ready 127.0.0.1:{{.Ports.DNSReady}}
  cache 30
  kubernetes ` + clusterDomain + ` in-addr.arpa {
    kubeconfig {{.Dir}}/coredns.kubeconfig
    fallthrough in-addr.arpa
    ttl 5
  }{{if .Resolver}}
  forward . {{.Resolver}}{{end}}
}
`,
}

// configure writes the files.
func (n *node) configure(ports nodePorts) error {
	resolver, err := hostResolver()
	if err != nil {
		return err
	}
	values := struct {
		Dir, Socket, CNIBin, CA, Pause, Resolver string
		Ports                                    nodePorts
	}{
		Dir: n.layout.node(), Socket: n.socket(), CNIBin: n.cniBin, CA: n.layout.pki("ca.crt"),
		Pause: n.images["pause"].Reference, Resolver: resolver, Ports: ports,
	}
	for name, text := range nodeFiles {
		t, err := template.New(name).Parse(text)
		if err != nil {
			return fmt.Errorf("reading the template of %s: %w", name, err)
		}
		var out bytes.Buffer
		if err := t.Execute(&out, values); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		if err := writeFile(n.layout.node(name), out.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// certify issues the node's certificates, and writes the kubeconfigs of its agents.
func (n *node) certify(server string, now time.Time) error {
	ca, err := ensureCA(n.layout.pki(), now)
	if err != nil {
		return err
	}
	for _, l := range []leaf{
		{file: "apiserver", commonName: "kube-apiserver", names: append([]string{nodeIP}, apiserverNames...)},
		{file: "kubelet", commonName: "system:node:" + nodeName, organizations: []string{"system:nodes"}, names: []string{nodeName, nodeIP}},
		{file: "kube-proxy", commonName: "system:kube-proxy"},
		{file: "coredns", commonName: dnsUser},
		{file: "kube-router", commonName: policyUser},
	} {
		if err := ca.ensure(n.layout.node(), l, now); err != nil {
			return fmt.Errorf("issuing the certificate of %s: %w", l.commonName, err)
		}
	}
	for _, agent := range []string{"kubelet", "kube-proxy", "coredns", "kube-router"} {
		config := clientcmdapi.NewConfig()
		config.Clusters[agent] = &clientcmdapi.Cluster{Server: server, CertificateAuthority: n.layout.pki("ca.crt")}
		config.AuthInfos[agent] = &clientcmdapi.AuthInfo{ClientCertificate: n.layout.node(agent + ".crt"), ClientKey: n.layout.node(agent + ".key")}
		config.Contexts[agent] = &clientcmdapi.Context{Cluster: agent, AuthInfo: agent}
		config.CurrentContext = agent
		b, err := clientcmd.Write(*config)
		if err != nil {
			return fmt.Errorf("writing the kubeconfig of %s: %w", agent, err)
		}
		if err := writeFile(n.layout.node(agent+".kubeconfig"), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// readFileOr is a file's content, or the empty string where there is no such file.
func readFileOr(path string) (string, error) {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return "", nil
	}
	return string(b), err
}
