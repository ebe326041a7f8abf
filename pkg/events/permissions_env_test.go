package events_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"orkestra.dev/pkg/events"
)

// guarded is a server with the configuration of deploy/nats.
type guarded struct {
	url, ca string
	seeds   map[string]string // files, by identity
	logs    *buffer
}

// guard starts a server as deploy/nats says; only its port is another.
func guard(t *testing.T) *guarded {
	t.Helper()
	dir := t.TempDir()
	g := &guarded{seeds: map[string]string{}, logs: &buffer{}}
	crt, key := certificate(t, dir)
	g.ca = crt
	t.Setenv("ORKESTRA_NATS_TLS_CERT", crt)
	t.Setenv("ORKESTRA_NATS_TLS_KEY", key)
	t.Setenv("ORKESTRA_NATS_STORE", filepath.Join(dir, "store"))
	for _, i := range events.Identities() {
		public, file := user(t, dir, i.Name)
		g.seeds[i.Name] = file
		t.Setenv("ORKESTRA_NKEY_"+strings.ToUpper(i.Name), public)
	}
	options, err := server.ProcessConfigFile(filepath.Join("..", "..", "deploy", "nats", "nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	options.Host, options.Port, options.HTTPPort = "127.0.0.1", -1, 0
	options.NoLog, options.NoSigs = true, true
	srv, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	go srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(timeout) {
		t.Fatal("the server is not ready")
	}
	g.url = "tls://" + srv.Addr().String()
	return g
}

// bus connects as an identity, with what deploy/nats/README.md tells it to use.
func (g *guarded) bus(t *testing.T, identity events.Identity) *events.Bus {
	t.Helper()
	e := &env{logs: g.logs}
	b, err := events.Connect(t.Context(), events.Options{
		URL: g.url, Source: "orkestra://test/" + identity.Name, NKeyFile: g.seeds[identity.Name], CAFile: g.ca,
		InboxPrefix: identity.Inbox, Logger: e.logger(), MaxAttempts: 2,
		Backoff: func(uint64) time.Duration { return 10 * time.Millisecond },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// raw is a connection of an identity without this package.
func (g *guarded) raw(t *testing.T, identity events.Identity) *nats.Conn {
	t.Helper()
	key, err := nats.NkeyOptionFromSeed(g.seeds[identity.Name])
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(g.url, key, nats.RootCAs(g.ca), nats.CustomInboxPrefix(identity.Inbox),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // LastError has it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// user makes the NKey of a user: its public half, and the file of its seed.
func user(t *testing.T, dir, name string) (public, file string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, name+".nk")
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	return public, file
}

// certificate of a server on loopback, which is its own authority.
func certificate(t *testing.T, dir string) (crt, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nats"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	crt, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for file, block := range map[string]*pem.Block{
		crt: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return crt, key
}
