package chart

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"orkestra.dev/test/chart/installations"
)

// bus runs the NATS server of the stack with the configuration and the certificates of the chart: who has no certificate
// does not get in, and who has one may do what its service may, and no more.
func (c *cluster) bus(t *testing.T) {
	dir := t.TempDir()
	write := func(content string, elem ...string) {
		t.Helper()
		path := filepath.Join(append([]string{dir}, elem...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for _, u := range mustRender(t, installations.Installation{}) {
		data, _, err := unstructured.NestedStringMap(u.Object, "data")
		if err != nil || len(data) == 0 {
			continue
		}
		for name, content := range data {
			switch user, found := strings.CutPrefix(u.GetName(), "orkestra-nats-"); {
			case u.GetKind() == "Secret" && found:
				b, err := base64.StdEncoding.DecodeString(content)
				if err != nil {
					t.Fatal(err)
				}
				write(string(b), user, name)
			case u.GetKind() == "ConfigMap" && u.GetName() == "orkestra-nats":
				content = strings.NewReplacer("/etc/nats/tls", filepath.Join(dir, "server"), "/data", filepath.Join(dir, "data"),
					"0.0.0.0:4222", address, `http: "0.0.0.0:8222"`, "").Replace(content)
				write(content, name)
			}
		}
	}
	server := exec.Command(filepath.Join(c.bin, "nats-server"), "--config", filepath.Join(dir, "nats.conf"))
	server.Env = append(os.Environ(), "POD_NAME=orkestra-nats-0")
	var said strings.Builder
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := server.Wait(); err == nil {
			t.Error("the server had ended by itself")
		}
		if t.Failed() {
			t.Log(said.String())
		}
	})
	var intake *nats.Conn
	deadline := time.Now().Add(20 * time.Second)
	for {
		if intake, err = connect(dir, address, "intake"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("intake does not get in: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	defer intake.Close()
	if stranger, err := connect(dir, address, ""); err == nil {
		stranger.Close()
		t.Error("who has no certificate got in")
	}
	for subject, allowed := range map[string]bool{
		"orkestra.v1.group.bookinfo": true, "orkestra.v1.workflow.bookinfo": false, "$JS.API.STREAM.DELETE.ORKESTRA": false,
	} {
		if err := publish(intake, subject); (err == nil) != allowed {
			t.Errorf("intake on %s: %v", subject, err)
		}
	}
}

// connect as a user of the chart; without a name, as one that has no certificate.
func connect(dir, address, user string) (*nats.Conn, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool(), ServerName: "orkestra-nats.orkestra.svc"}
	ca, err := os.ReadFile(filepath.Join(dir, "server", "ca.crt"))
	if err != nil {
		return nil, err
	}
	config.RootCAs.AppendCertsFromPEM(ca)
	if user != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, user, "tls.crt"), filepath.Join(dir, user, "tls.key"))
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return nats.Connect("tls://"+address, nats.Secure(config), nats.NoReconnect(), nats.Timeout(5*time.Second))
}

// publish returns what the server has against it.
func publish(c *nats.Conn, subject string) error {
	refused := make(chan error, 1)
	c.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case refused <- err:
		default: // one is enough
		}
	})
	if err := c.Publish(subject, []byte("{}")); err != nil {
		return err
	}
	// The answer to a ping comes after what is said of the message before it, which the client hands to another goroutine.
	if err := c.FlushTimeout(5 * time.Second); err != nil {
		return fmt.Errorf("asking for an answer: %w", err)
	}
	select {
	case err := <-refused:
		return err
	case <-time.After(300 * time.Millisecond):
		return nil // the last error of the connection is that of an earlier subject
	}
}
