package intake

import (
	"crypto/tls"
	"errors"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// certificate of the webhooks of Receivers: two files, both or none.
type certificate struct{ cert, key string }

// validate the flags: who gets one of them wrong is not to have tokens sent in the clear.
func (c certificate) validate(addr string) error {
	switch {
	case c == certificate{}:
		return nil
	case c.cert == "" || c.key == "":
		return errors.New("--receiver-tls-cert, --receiver-tls-key: give both, or none for plain HTTP")
	case addr == "":
		return errors.New("--receiver-tls-cert: give --receiver-addr too, the address that it is for")
	}
	if _, err := tls.LoadX509KeyPair(c.cert, c.key); err != nil {
		return fmt.Errorf("--receiver-tls-cert, --receiver-tls-key: %w", err)
	}
	return nil
}

// config of a server with what the files hold at the time, nil where there are none. Who
// renews them need not restart anything.
func (c certificate) config(m manager.Manager) (*tls.Config, error) {
	if c == (certificate{}) {
		return nil, nil
	}
	files, err := certwatcher.New(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate of the webhooks: %w", err)
	}
	if err := m.Add(files); err != nil {
		return nil, fmt.Errorf("watching the certificate of the webhooks: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: files.GetCertificate}, nil
}
