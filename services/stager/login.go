package stager

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
)

// login is the directory with the files username and password, as a Secret is mounted;
// empty: the museum does not ask. They are read for each request, so that another
// password needs no restart.
type login string

// read returns both, or neither where there is no directory. Its errors, refusals with
// reason StagingUnavailable, tell no content.
func (l login) read() (username, password string, err error) {
	if l == "" {
		return "", "", nil
	}
	var words [2]string
	for i, name := range []string{"username", "password"} {
		b, err := os.ReadFile(filepath.Join(string(l), name))
		switch {
		case err != nil:
			err = fmt.Errorf("reading --staging-credentials: %w", err)
		case len(b) == 0:
			err = fmt.Errorf("--staging-credentials: the file %s in %s is empty", name, l)
		case strings.ContainsAny(string(b), "\r\n"):
			// ChartMuseum takes it along, from the same Secret.
			err = fmt.Errorf("--staging-credentials: the file %s in %s has a line break; write it without, also at the end", name, l)
		case name == "username" && strings.Contains(string(b), ":"):
			err = fmt.Errorf("--staging-credentials: the file username in %s has a colon, which basic authentication cannot carry", l)
		}
		if err != nil {
			return "", "", refusal.Because(v1alpha1.ReasonStagingUnavailable, err)
		}
		words[i] = string(b)
	}
	return words[0], words[1], nil
}

// guard keeps the password of the staging repository from other hosts: who writes a
// group may name any Secret that the stager can read, and any URL.
type guard struct {
	login login
	// secret is the one that the login is mounted from.
	secret client.ObjectKey
	// host of the staging repository, with its port.
	host string
}

// check refuses, with reason AuthenticationFailed, the Secret for charts of a URL.
func (g guard) check(raw string, secret *corev1.Secret) error {
	username, password, err := g.login.read()
	if err != nil {
		return err
	}
	same := password != "" && string(secret.Data["username"]) == username && string(secret.Data["password"]) == password
	if !same && client.ObjectKeyFromObject(secret) != g.secret {
		return nil
	}
	if u, err := url.Parse(raw); err == nil && u.Host == g.host {
		return nil
	}
	return refusal.Becausef(v1alpha1.ReasonAuthenticationFailed,
		"Secret %s, which authSecretRef names, is that of the staging repository, and is shown to %s only; name one of the registry's own",
		client.ObjectKeyFromObject(secret), g.host)
}

// discreet is an error that does not repeat what was shown to the museum.
func discreet(err error, username, password string) error {
	return registry.Discreet(err, password, registry.Basic(username, password))
}
