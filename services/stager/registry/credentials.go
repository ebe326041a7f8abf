package registry

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
)

// Credentials for a repository. They are only ever sent to its own host, and, for an
// OCI registry, to the token server that the registry itself names.
type Credentials struct {
	plain  login
	docker *dockerConfig // who to log in as, by host; nil where login says it
	id     string        // the same for the same Secret data, and telling nothing of it
}

// login is what is shown to one host.
type login struct {
	username, password string
	token              string // that is sent as it is, after "Bearer"
	refresh            string // that an OCI token server gives a token for
	tls                *tls.Config
}

func (l login) discreet(err error) error {
	return Discreet(err, l.password, l.token, l.refresh, Basic(l.username, l.password))
}

// Basic is how HTTP's basic authentication writes who asks.
func Basic(username, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
}

// Discreet is an error without what is secret: a server that was told may repeat it in
// whatever goes into a message, a host to redirect to or a line that is not HTTP. What
// is shorter than four bytes is not looked for.
func Discreet(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	for _, secret := range secrets {
		if len(secret) >= 4 && strings.Contains(err.Error(), secret) {
			return &refusal.Error{Reason: refusal.Reason(err), Err: errors.New("what the server answers cannot be told here, as it repeats the credentials")}
		}
	}
	return err
}

// Keys of a Secret with credentials, as in the original, and that for a token.
const (
	keyUsername = "username"
	keyPassword = "password"
	keyToken    = "token"
	keyCert     = "tls.crt"
	keyKey      = "tls.key"
	keyCA       = "ca.crt"
	keyDocker   = corev1.DockerConfigJsonKey
)

// CredentialsOf reads the data of a Secret: username and password, or a bearer token,
// or what kubectl create secret docker-registry makes; a TLS client certificate and its
// key; a CA to trust. The keys tell them apart, so that the Secret's type need not be
// known, and a docker-registry Secret may have a ca.crt. What is incomplete or does not
// parse is refused (AuthenticationFailed); the message names the key, never its value.
func CredentialsOf(data map[string][]byte) (*Credentials, error) {
	c := &Credentials{plain: login{username: string(data[keyUsername]), password: string(data[keyPassword]), token: string(data[keyToken])}}
	id := sha256.New()
	for _, k := range []string{keyUsername, keyPassword, keyToken, keyCert, keyKey, keyCA, keyDocker} {
		fmt.Fprintf(id, "%q", data[k])
	}
	c.id = hex.EncodeToString(id.Sum(nil))
	if err := c.read(data); err != nil {
		return nil, refusal.Because(v1alpha1.ReasonAuthenticationFailed, err)
	}
	return c, nil
}

func (c *Credentials) read(data map[string][]byte) (err error) {
	if c.plain.username == "" && c.plain.password != "" {
		return fmt.Errorf("key %s is missing beside %s", keyUsername, keyPassword)
	}
	if c.plain.tls, err = tlsOf(data); err != nil {
		return err
	}
	if config := data[keyDocker]; len(config) > 0 {
		if c.docker, err = parseDockerConfig(config); err != nil {
			return err
		}
	}
	kinds := 0
	for _, given := range []bool{c.plain.username != "", c.plain.token != "", c.docker != nil} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return fmt.Errorf("of the keys %s, %s and %s there may be only one", keyUsername, keyToken, keyDocker)
	case kinds == 0 && c.plain.tls == nil:
		return errors.New("none of the keys username, password, token, tls.crt, tls.key, ca.crt and .dockerconfigjson is there")
	}
	return nil
}

// tlsOf the keys for it; nil where there are none.
func tlsOf(data map[string][]byte) (*tls.Config, error) {
	ca, cert, key := data[keyCA], data[keyCert], data[keyKey]
	if len(ca)+len(cert)+len(key) == 0 {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(ca) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("key %s holds no certificate in PEM", keyCA)
		}
	}
	switch {
	case len(cert) > 0 && len(key) > 0:
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("keys %s and %s are not a certificate and its key", keyCert, keyKey)
		}
		config.Certificates = []tls.Certificate{pair}
	case len(cert) > 0 || len(key) > 0:
		return nil, fmt.Errorf("of %s and %s there is only one", keyCert, keyKey)
	}
	return config, nil
}

// login for a repository at a host, with or without a port, and a path.
func (c *Credentials) login(host, path string) (login, error) {
	switch {
	case c == nil:
		return login{}, nil
	case c.docker == nil:
		return c.plain, nil
	}
	l, err := c.docker.login(host, path)
	if err != nil {
		return login{}, refusal.Because(v1alpha1.ReasonAuthenticationFailed, err)
	}
	l.tls = c.plain.tls
	return l, nil
}
