package stack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestForeignCluster(t *testing.T) {
	root := t.TempDir()
	own := filepath.Join(root, ".local", "kubeconfig")
	names := func(kubeconfig string) (has []string, webhook, used string) {
		t.Helper()
		l, err := Options{Root: root, Kubeconfig: kubeconfig}.layout()
		if err != nil {
			t.Fatal(err)
		}
		files := []string{filepath.Join(l.share, "kwok", "pod-ready.yaml")}
		for _, s := range servers {
			files = append(files, stampFile(l.bin, s.binary))
		}
		for _, s := range programs() {
			files = append(files, serviceBinary(l.bin, s))
		}
		for _, f := range files {
			if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for file, content := range map[string]string{
			l.usersFile(): "{ nkey: $ORKESTRA_NKEY_INTAKE }", filepath.Join(l.dir, "nats", ".keep"): "",
		} {
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.makeKeys(); err != nil {
			t.Fatal(err)
		}
		p := &planner{layout: l, ports: &ports{chosen: map[string]int{}, free: func(int) bool { return true }}}
		out := p.plan(Options{Services: true})
		if p.err != nil {
			t.Fatal(p.err)
		}
		for _, name := range []string{"etcd", "kube-apiserver", "kwok", "nats", "chartmuseum", "workflow-controller", "helm-controller", "intake"} {
			if out.has(name) {
				has = append(has, name)
			}
		}
		return has, out.webhookURL, out.controllers[2].Exports["KUBECONFIG"]
	}
	all := []string{"etcd", "kube-apiserver", "kwok", "nats", "chartmuseum", "workflow-controller", "helm-controller", "intake"}
	for name, tt := range map[string]struct {
		reason, kubeconfig, used string
		want                     []string
		webhook                  bool
	}{
		"None":    {reason: "without a kubeconfig there is a cluster of our own", used: own, want: all, webhook: true},
		"Our own": {reason: "who has sourced env means no other cluster", kubeconfig: own, used: own, want: all, webhook: true},
		"Foreign": {reason: "no Kubernetes is started beside a cluster that is there, and it could not reach our webhook",
			kubeconfig: "/kind/kubeconfig", used: "/kind/kubeconfig", want: all[3:]},
	} {
		t.Run(name, func(t *testing.T) {
			got, webhook, used := names(tt.kubeconfig)
			if diff := cmp.Diff(tt.want, got); diff != "" || (webhook != "") != tt.webhook || used != tt.used {
				t.Errorf("%s: webhook %q, kubeconfig %q (-want +got):\n%s", tt.reason, webhook, used, diff)
			}
		})
	}
}

func TestFlagsForNobodyAreRefused(t *testing.T) {
	for server, reason := range map[string]string{
		"helm-controler": "a name that is not quite right would be left out silently",
		"compiler":       "a service has its flags in ServiceArgs",
	} {
		l := layout{dir: t.TempDir()}
		p := &planner{layout: l, ports: &ports{chosen: map[string]int{}, free: func(int) bool { return true }}}
		p.plan(Options{KubernetesOnly: true, ServerArgs: map[string][]string{server: {"-x"}}})
		if p.err == nil || !strings.Contains(p.err.Error(), `"`+server+`": the stack has no such server`) {
			t.Errorf("%s: %v", reason, p.err)
		}
	}
}

// TestFlagsOfServices is the contract with the services' mains.
func TestFlagsOfServices(t *testing.T) {
	l, err := Options{Root: t.TempDir()}.layout()
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range programs() {
		if err := os.MkdirAll(l.bin, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(serviceBinary(l.bin, service), []byte(service), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ports := &ports{chosen: map[string]int{
		"intake/health": 1, "intake/metrics": 2, "intake/webhook": 3, "intake/receivers": 11,
		"intake-2/health": 4, "intake-2/metrics": 5, "intake-2/webhook": 6, "intake-2/receivers": 12,
		"stager/health": 7, "stager/metrics": 8, "stager/artifacts": 15, "auditor/health": 13, "auditor/metrics": 14,
	}, free: func(int) bool { return true }}
	p := &planner{layout: l, ports: ports}
	services, webhook := p.planServices(Options{Replicas: 2, ServiceArgs: map[string][]string{"stager": {"--workers", "2"}}},
		"nats://127.0.0.1:9", "http://127.0.0.1:10")
	if p.err != nil {
		t.Fatal(p.err)
	}
	got := map[string]string{}
	for _, s := range services {
		got[s.Name] = strings.ReplaceAll(strings.Join(s.Command, " "), l.dir, "DIR")
	}
	if len(got) != 2*len(Services)+1 {
		t.Errorf("two replicas of each: %d", len(got))
	}
	common := func(service string) string {
		return "DIR/bin/orkestra-" + service + " --kubeconfig DIR/accounts/" + service + ".kubeconfig"
	}
	bus := func(service string) string {
		return " --namespace orkestra --log-level info --nats-url nats://127.0.0.1:9 --nats-ca DIR/pki/ca.crt" +
			" --nats-nkey DIR/nats/" + service + ".nk --nats-topology await"
	}
	want := map[string]string{
		"intake": common("intake") + " --health-addr 127.0.0.1:1 --metrics-addr 127.0.0.1:2" + bus("intake") +
			" --webhook-addr 127.0.0.1:3 --webhook-cert-dir DIR/pki/webhook --receiver-addr 127.0.0.1:11",
		"intake-2": common("intake") + " --health-addr 127.0.0.1:4 --metrics-addr 127.0.0.1:5" + bus("intake") +
			" --webhook-addr 127.0.0.1:6 --webhook-cert-dir DIR/pki/webhook --receiver-addr 127.0.0.1:12",
		"stager": common("stager") + " --health-addr 127.0.0.1:7 --metrics-addr 127.0.0.1:8" + bus("stager") +
			" --chartmuseum-url http://127.0.0.1:10 --staging-credentials DIR/chartmuseum --staging-secret chartmuseum-password" +
			" --allow-private-registries --artifact-addr 127.0.0.1:15 --artifact-url http://127.0.0.1:15 --workers 2",
		"auditor": "DIR/bin/orkestra-auditor --dir DIR/data/audit --health-addr 127.0.0.1:13 --metrics-addr 127.0.0.1:14" +
			" --log-level info --nats-url nats://127.0.0.1:9 --nats-ca DIR/pki/ca.crt --nats-nkey DIR/nats/auditor.nk",
	}
	for name, command := range want {
		if diff := cmp.Diff(command, got[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if webhook != "https://127.0.0.1:3" {
		t.Errorf("admission asks the first replica: %s", webhook)
	}
	exports := services[1].Exports
	if exports["ORKESTRA_INTAKE_2_HEALTH_URL"] != "http://127.0.0.1:4/healthz" || exports["ORKESTRA_INTAKE_2_WEBHOOK_URL"] != "https://127.0.0.1:6" {
		t.Errorf("a replica is found by its number: %v", exports)
	}

	path, before := p.binary(serviceBinary(l.bin, "intake"))
	if err := os.WriteFile(path, []byte("built anew"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, after := p.binary(path); after == before || p.err != nil {
		t.Errorf("an executable is known by its content: %v", p.err)
	}
	if _, _ = p.binary(filepath.Join(l.bin, "missing")); p.err == nil {
		t.Error("an executable that is not there is an error")
	}
}
