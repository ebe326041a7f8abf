package stack

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPorts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.json")
	p, err := loadPorts(path)
	if err != nil {
		t.Fatal(err)
	}
	p.free = func(int) bool { return true }
	chosen := map[int]string{}
	for _, key := range []string{"etcd/client", "etcd/peer", "nats/client", "intake/health", "intake-2/health"} {
		process, purpose, _ := strings.Cut(key, "/")
		port, err := p.get(process, purpose)
		if err != nil {
			t.Fatal(err)
		}
		if other := chosen[port]; other != "" || port < firstPort || port > lastPort {
			t.Errorf("%s got %d, which %q has, or which is out of range", key, port, other)
		}
		chosen[port] = key
	}
	if err := p.save(); err != nil {
		t.Fatal(err)
	}

	again, err := loadPorts(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.chosen, again.chosen); diff != "" {
		t.Errorf("a port is what it was at the last up (-saved +loaded):\n%s", diff)
	}

	etcd, nats := again.chosen["etcd/client"], again.chosen["nats/client"]
	again.free = func(port int) bool { return port != etcd && port != nats }
	again.forget(func(process string) bool { return process == "nats" })
	if got, err := again.get("nats", "client"); err != nil || got != nats {
		t.Errorf("a process that runs keeps its port: got %d, %v, want %d", got, err, nats)
	}
	if got, err := again.get("etcd", "client"); err != nil || got == etcd {
		t.Errorf("a port that another program took is chosen anew: got %d, %v", got, err)
	}
	if got, err := again.get("etcd", "peer"); err != nil || got != p.chosen["etcd/peer"] {
		t.Errorf("a free port is kept though its process does not run: got %d, %v", got, err)
	}

	again.free = func(int) bool { return false }
	if _, err := again.get("kwok", "http"); err == nil {
		t.Error("no free port is an error")
	}
}

func TestEnvFile(t *testing.T) {
	vars := map[string]string{
		"NATS_URL":   "nats://127.0.0.1:4222",
		"KUBECONFIG": "/home/o'brien/my $HOME/`x`/kubeconfig",
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "env")
	if err := os.WriteFile(path, envFile(vars, "/a dir/bin"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Read by a shell, as users will, and twice, as users will.
	cmd := exec.Command("sh", "-c", `. "$1"; . "$1"; printf '%s\n' "$KUBECONFIG" "$NATS_URL" "$PATH"`, "sh", path)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := vars["KUBECONFIG"] + "\n" + vars["NATS_URL"] + "\n/a dir/bin:/usr/bin:/bin\n"
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Errorf("what a shell reads (-want +got):\n%s", diff)
	}
}

func TestParseStat(t *testing.T) {
	rest := " 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 5 0 %T 1000 200"
	line := func(pidName, state, ticks string) string {
		return pidName + " " + state + strings.ReplaceAll(rest, "%T", ticks)
	}
	for name, tt := range map[string]struct {
		reason, line string
		want         stat
		fails        bool
	}{
		"Plain":       {reason: "state, threads and start are fields 3, 20 and 22", line: line("12 (etcd)", "S", "4711"), want: stat{'S', 5, 4711}},
		"Parentheses": {reason: "a name may look like fields", line: line("12 (a) R 1 (b) Z)", "R", "99"), want: stat{'R', 5, 99}},
		"Zombie":      {reason: "the state of an ended process is told", line: line("12 (kwok)", "Z", "3"), want: stat{'Z', 5, 3}},
		"Short":       {reason: "a truncated line is an error", line: "12 (etcd) S 1 2", fails: true},
		"NoName":      {reason: "what is no stat line is an error", line: "hello", fails: true},
		"NoNumber":    {reason: "a start that is no number is an error", line: line("12 (etcd)", "S", "soon"), fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat(tt.line)
			if (err != nil) != tt.fails || got != tt.want {
				t.Errorf("%s: got %+v %v", tt.reason, got, err)
			}
		})
	}
}

func TestStamp(t *testing.T) {
	s := server{module: "m", pkg: ".", binary: "b", stamps: []string{"main.Version=v1"}}
	sources := map[string]string{"go.mod": "module m\n", "go.sum": "x h1:1\n", "main.go": "package main\n"}
	stamp := func(s server, sources map[string]string, toolchain string) string {
		t.Helper()
		dir := t.TempDir()
		for name, content := range sources {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.stamp(dir, []byte(toolchain))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	with := func(name, content string) map[string]string {
		out := map[string]string{name: content}
		for k, v := range sources {
			if k != name {
				out[k] = v
			}
		}
		return out
	}
	base := stamp(s, sources, "go1.26.0")
	if again := stamp(s, with("README.md", "hello"), "go1.26.0"); again != base {
		t.Error("the same module in another folder has the same stamp, whatever else lies there")
	}
	newer, withManifest := s, s
	newer.stamps = []string{"main.Version=v2"}
	withManifest.manifests = []manifest{{"m", "*.yaml"}}
	for reason, other := range map[string]string{
		"a requirement changed":      stamp(s, with("go.mod", "module m\nrequire x v1.0.0\n"), "go1.26.0"),
		"a checksum changed":         stamp(s, with("go.sum", "x h1:2\n"), "go1.26.0"),
		"a source changed":           stamp(s, with("main.go", "package main // new\n"), "go1.26.0"),
		"a source was added":         stamp(s, with("more.go", "package main\n"), "go1.26.0"),
		"the toolchain changed":      stamp(s, sources, "go1.26.1"),
		"a linker flag changed":      stamp(newer, sources, "go1.26.0"),
		"other manifests are wanted": stamp(withManifest, sources, "go1.26.0"),
	} {
		if other == base {
			t.Errorf("%s, and the stamp did not", reason)
		}
	}
	if _, err := s.stamp(t.TempDir(), nil); err == nil {
		t.Error("a module without go.mod is an error")
	}
}

func TestPKI(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	snapshot := func() map[string]string {
		t.Helper()
		out := map[string]string{}
		for _, f := range []string{"ca.crt", "apiserver.crt", "admin.crt", "component.crt", "webhook/tls.crt", "webhook/ca.crt", "sa.key"} {
			b, err := os.ReadFile(filepath.Join(dir, f))
			if err != nil {
				t.Fatal(err)
			}
			out[f] = string(b)
		}
		return out
	}
	issue := func(now time.Time) map[string]string {
		t.Helper()
		if err := makePKI(dir, now); err != nil {
			t.Fatal(err)
		}
		return snapshot()
	}
	verifies := func(file, name string, at time.Time) {
		t.Helper()
		ca, _, err := loadPair(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
		if err != nil {
			t.Fatal(err)
		}
		cert, _, err := loadPair(filepath.Join(dir, file+".crt"), filepath.Join(dir, file+".key"))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: at}); err != nil {
			t.Errorf("%s does not serve %q: %v", file, name, err)
		}
	}

	first := issue(now)
	verifies("apiserver", "127.0.0.1", now)
	verifies("apiserver", "kubernetes.default.svc", now)
	verifies("component", "127.0.0.1", now)
	verifies("webhook/tls", "127.0.0.1", now)
	if first["webhook/ca.crt"] != first["ca.crt"] {
		t.Error("the webhook's folder holds the authority that signed its certificate")
	}
	if info, err := os.Stat(filepath.Join(dir, "admin.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a key is its owner's alone: %v, %v", info.Mode(), err)
	}
	if diff := cmp.Diff(first, issue(now)); diff != "" {
		t.Errorf("what is valid is kept (-first +second):\n%s", diff)
	}

	later := now.Add(leafLife - renewal/2)
	renewed := issue(later)
	if renewed["ca.crt"] != first["ca.crt"] || renewed["apiserver.crt"] == first["apiserver.crt"] {
		t.Error("a certificate that soon runs out is issued again, by the same authority")
	}
	verifies("apiserver", "127.0.0.1", later.Add(renewal))

	if err := os.Remove(filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	replaced := issue(now)
	for _, f := range []string{"ca.crt", "apiserver.crt", "webhook/tls.crt", "webhook/ca.crt"} {
		if replaced[f] == renewed[f] {
			t.Errorf("%s: of an authority whose key is lost, nothing is kept", f)
		}
	}
	if replaced["sa.key"] != first["sa.key"] {
		t.Error("the key of service account tokens is never replaced")
	}
	verifies("apiserver", "127.0.0.1", now)
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	earlier := "an earlier run\n"
	long := strings.Repeat(strings.Repeat("x", 99)+"\n", 2*tailWindow/100)
	for name, tt := range map[string]struct {
		reason, content string
		offset          int64
		want            []string
	}{
		"Last":     {reason: "only the last lines", content: "a\nb\nc\n", want: []string{"b", "c"}},
		"ThisRun":  {reason: "only what this run wrote", content: earlier + "a\n", offset: int64(len(earlier)), want: []string{"a"}},
		"Nothing":  {reason: "a run that wrote nothing", content: earlier, offset: int64(len(earlier))},
		"Unended":  {reason: "a last line without an end", content: "a\nb", want: []string{"a", "b"}},
		"LongFile": {reason: "a long log is read from its end", content: long + "last\n", want: []string{strings.Repeat("x", 99), "last"}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := tail(path, tt.offset, 2)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

func TestPassedOn(t *testing.T) {
	got := passedOn([]string{"PATH=/bin", "PORT=8080", "STORAGE=amazon", "https_proxy=http://p", "KUBECONFIG=/theirs", "OTEL_X=1", "HOME=/root", "GOCOVERDIR=/c"})
	want := []string{"PATH=/bin", "https_proxy=http://p", "OTEL_X=1", "GOCOVERDIR=/c"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a server does not take the user's settings for its own (-want +got):\n%s", diff)
	}
}
