package stack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 5 * 365 * 24 * time.Hour
	// renewal: a certificate with less than this to live is issued again at the next up.
	renewal = 30 * 24 * time.Hour
)

// authority is the certificate authority of one stack. Its key, like every other, lies in the stack's folder, readable
// by its owner alone, and is worth nothing but this stack.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// fresh: made just now, so that whatever an older one signed is void.
	fresh bool
}

// leaf is a certificate to issue. Both usages, client and server, are always given.
type leaf struct {
	file, commonName string
	organizations    []string
	names            []string
}

// apiserverNames are those by which the API server is asked.
var apiserverNames = []string{"localhost", "127.0.0.1", serviceClusterIP,
	"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}

// makePKI makes what is missing or runs out in dir: ca, the API server's and the components' serving certificates, NATS',
// the administrator's, the key that signs service account tokens, and the certificate of intake's admission webhook.
func makePKI(dir string, now time.Time) error {
	for _, d := range []string{dir, filepath.Join(dir, "webhook")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("making the folder for certificates: %w", err)
		}
	}
	ca, err := ensureCA(dir, now)
	if err != nil {
		return err
	}
	for _, l := range []leaf{
		{file: "apiserver", commonName: "kube-apiserver", names: apiserverNames},
		{file: "component", commonName: "component", names: []string{"localhost", "127.0.0.1"}},
		{file: "admin", commonName: "kubernetes-admin", organizations: []string{"system:masters"}},
		{file: "nats", commonName: "nats", names: []string{"localhost", "127.0.0.1"}},
		{file: "webhook/tls", commonName: "intake", names: []string{"localhost", "127.0.0.1"}},
	} {
		if err := ca.ensure(dir, l, now); err != nil {
			return fmt.Errorf("issuing the certificate %s: %w", l.file, err)
		}
	}
	// The webhook server's folder also holds the authority, as cert-manager and Kubernetes Secrets of this kind do.
	if err := writePEM(filepath.Join(dir, "webhook", "ca.crt"), "CERTIFICATE", ca.cert.Raw, 0o644); err != nil {
		return err
	}
	return ensureServiceAccountKey(dir)
}

func ensureCA(dir string, now time.Time) (*authority, error) {
	crt, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	cert, k, err := loadPair(crt, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the certificate authority: %w", err)
	}
	if err == nil && now.Add(renewal).Before(cert.NotAfter) {
		return &authority{cert: cert, key: k}, nil
	}
	k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of the certificate authority: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "orkestra-local"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	cert, err = writePair(crt, key, t, t, k, k)
	if err != nil {
		return nil, fmt.Errorf("making the certificate authority: %w", err)
	}
	return &authority{cert: cert, key: k, fresh: true}, nil
}

func (a *authority) ensure(dir string, l leaf, now time.Time) error {
	crt, key := filepath.Join(dir, l.file+".crt"), filepath.Join(dir, l.file+".key")
	cert, _, err := loadPair(crt, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && !a.fresh && now.Add(renewal).Before(cert.NotAfter) && cert.CheckSignatureFrom(a.cert) == nil {
		return nil
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: l.commonName, Organization: l.organizations},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(leafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, n := range l.names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	_, err = writePair(crt, key, t, a.cert, k, a.key)
	return err
}

// ensureServiceAccountKey makes the pair that signs and checks service account tokens. It is never renewed: tokens that
// it signed would be void.
func ensureServiceAccountKey(dir string) error {
	private, public := filepath.Join(dir, "sa.key"), filepath.Join(dir, "sa.pub")
	if exists(private) && exists(public) {
		return nil
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the key of service accounts: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		return fmt.Errorf("making the key of service accounts: %w", err)
	}
	// Not PKCS #8: the API server reads an elliptic private key only in its own form.
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return fmt.Errorf("making the key of service accounts: %w", err)
	}
	if err := writePEM(private, "EC PRIVATE KEY", der, 0o600); err != nil {
		return err
	}
	return writePEM(public, "PUBLIC KEY", pub, 0o644)
}

func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("choosing a serial number: %w", err)
	}
	return n, nil
}

// writePair signs t, and writes the certificate and its key.
func writePair(crt, key string, t, parent *x509.Certificate, k, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, k.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("encoding the key: %w", err)
	}
	if err := writePEM(key, "PRIVATE KEY", keyDER, 0o600); err != nil {
		return nil, err
	}
	if err := writePEM(crt, "CERTIFICATE", der, 0o644); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func loadPair(crt, key string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	der, err := readPEM(crt)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("parsing %s: %w", crt, err)
	}
	if der, err = readPEM(key); err != nil {
		return nil, nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, nil, fmt.Errorf("parsing %s: %w", key, err)
	}
	ec, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("parsing %s: a %T is not of our making", key, k)
	}
	return cert, ec, nil
}

func readPEM(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("parsing %s: no PEM block", path)
	}
	return block.Bytes, nil
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
