package stack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
)

// MuseumSecret is the Secret in Namespace with ChartMuseum's password, by which a group may name charts that are there.
const MuseumSecret = "chartmuseum-password"

// museumUser is the one that ChartMuseum knows.
const museumUser = "orkestra"

// museum is the folder of what ChartMuseum's password is told by: the files username and password, as a mounted Secret has
// them, and a configuration, since others can see the arguments and the variables of a process.
func (l layout) museum(elem ...string) string {
	return filepath.Join(append([]string{l.path("chartmuseum")}, elem...)...)
}

// makePassword makes ChartMuseum's password, where there is none.
func (l layout) makePassword() error {
	if err := os.MkdirAll(l.museum(), 0o700); err != nil {
		return fmt.Errorf("making the folder of ChartMuseum's password: %w", err)
	}
	if !exists(l.museum("password")) {
		if err := writeFile(l.museum("password"), []byte(rand.Text()), 0o600); err != nil {
			return err
		}
	}
	username, password, err := l.museumLogin()
	if err != nil {
		return err
	}
	config := fmt.Sprintf("basicauth: {user: %q, pass: %q}\n", username, password)
	return errors.Join(
		writeFile(l.museum("username"), []byte(username), 0o600),
		writeFile(l.museum("config.yaml"), []byte(config), 0o600),
	)
}

func (l layout) museumLogin() (username, password string, err error) {
	b, err := os.ReadFile(l.museum("password"))
	if err != nil {
		return "", "", fmt.Errorf("reading ChartMuseum's password: %w", err)
	}
	return museumUser, string(b), nil
}

// MuseumLogin is who ChartMuseum lets read and write.
func (s *Stack) MuseumLogin() (username, password string, err error) { return s.layout.museumLogin() }

// museumFlags are how the stager reaches ChartMuseum, which is on loopback, where a registry in a chart's URL may otherwise
// not be.
func (l layout) museumFlags(url string) []string {
	return []string{"--chartmuseum-url", url, "--staging-credentials", l.museum(), "--staging-secret", MuseumSecret, "--allow-private-registries"}
}

// provideMuseumSecret makes the Secret with ChartMuseum's password.
func (s *Stack) provideMuseumSecret(ctx context.Context, client dynamic.Interface) error {
	username, password, err := s.layout.museumLogin()
	if err != nil {
		return err
	}
	return apply(ctx, client, &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: MuseumSecret},
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{"username": []byte(username), "password": []byte(password)},
	})
}
