package intake

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/manager"

	"orkestra.dev/pkg/events/eventstest"
)

// selfSigned writes a certificate of a serial number, and its key.
func selfSigned(t *testing.T, c certificate, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{c.cert: {Type: "CERTIFICATE", Bytes: cert}, c.key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// runs is a manager as far as a certificate needs one.
type runs struct {
	manager.Manager
	start func(manager.Runnable)
}

func (r runs) Add(what manager.Runnable) error {
	r.start(what)
	return nil
}

// Webhooks over TLS: nothing before 1.2, and the certificate that the files hold now.
func TestReceiversOverTLS(t *testing.T) {
	dir := t.TempDir()
	files := certificate{cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key")}
	selfSigned(t, files, 1)
	if err := files.validate(":0"); err != nil {
		t.Fatal(err)
	}
	start := func(r manager.Runnable) {
		go func() {
			if err := r.Start(t.Context()); err != nil {
				t.Error(err)
			}
		}()
	}
	config, err := files.config(runs{start: start})
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	h := newHooked(t, nil, receiver(), tokens("orkestra"))
	start(h.end.serve(addr, config, h.known.load))

	served := func(latest uint16) (serial int64, status int) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MaxVersion: latest}}}
		resp, err := client.Get("https://" + addr + "/")
		if err != nil {
			return 0, 0
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64(), resp.StatusCode
	}
	eventstest.Eventually(t, 20*time.Second, "the server to speak TLS", func() bool {
		serial, status := served(tls.VersionTLS13)
		return serial == 1 && status == http.StatusNotFound
	})
	if serial, _ := served(tls.VersionTLS12); serial != 1 {
		t.Error("TLS 1.2 is not spoken")
	}
	if serial, _ := served(tls.VersionTLS11); serial != 0 {
		t.Error("TLS 1.1 is spoken")
	}
	selfSigned(t, files, 2)
	eventstest.Eventually(t, 30*time.Second, "the renewed certificate", func() bool {
		serial, _ := served(tls.VersionTLS13)
		return serial == 2
	})
}

func TestCertificateFlags(t *testing.T) {
	dir := t.TempDir()
	good := certificate{cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key")}
	selfSigned(t, good, 1)
	for name, tt := range map[string]struct {
		c    certificate
		addr string
		ok   bool
	}{
		"none":                {certificate{}, ":0", true},
		"both":                {good, ":0", true},
		"no key":              {certificate{cert: good.cert}, ":0", false},
		"no address":          {good, "", false},
		"a file is not there": {certificate{cert: good.cert, key: good.key + "x"}, ":0", false},
	} {
		if err := tt.c.validate(tt.addr); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
