package registry

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
)

// Credentials for a repository. They are only ever sent to its own host.
type Credentials struct {
	username, password string
	tls                *tls.Config
	id                 string // the same for the same Secret data, and telling nothing of it
}

// Keys of a Secret with credentials, as in the original.
const (
	keyUsername = "username"
	keyPassword = "password"
	keyCert     = "tls.crt"
	keyKey      = "tls.key"
	keyCA       = "ca.crt"
)

// CredentialsOf reads the data of a Secret. What is incomplete or does not parse is
// refused (AuthenticationFailed); the message names the key, never its value.
func CredentialsOf(data map[string][]byte) (*Credentials, error) {
	c := &Credentials{username: string(data[keyUsername]), password: string(data[keyPassword])}
	id := sha256.New()
	for _, k := range []string{keyUsername, keyPassword, keyCert, keyKey, keyCA} {
		fmt.Fprintf(id, "%q", data[k])
	}
	c.id = hex.EncodeToString(id.Sum(nil))
	refuse := func(err error) (*Credentials, error) {
		return nil, refusal.Because(v1alpha1.ReasonAuthenticationFailed, err)
	}
	if c.username == "" && c.password != "" {
		return refuse(fmt.Errorf("key %s is missing beside %s", keyUsername, keyPassword))
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca := data[keyCA]; len(ca) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return refuse(fmt.Errorf("key %s holds no certificate in PEM", keyCA))
		}
		c.tls = config
	}
	cert, key := data[keyCert], data[keyKey]
	switch {
	case len(cert) > 0 && len(key) > 0:
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return refuse(fmt.Errorf("keys %s and %s are not a certificate and its key", keyCert, keyKey))
		}
		config.Certificates = []tls.Certificate{pair}
		c.tls = config
	case len(cert) > 0 || len(key) > 0:
		return refuse(fmt.Errorf("of %s and %s there is only one", keyCert, keyKey))
	}
	if c.username == "" && c.tls == nil {
		return refuse(errors.New("none of the keys username, password, tls.crt, tls.key and ca.crt is there"))
	}
	return c, nil
}
