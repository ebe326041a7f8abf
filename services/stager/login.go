package stager

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
	"orkestra.dev/services/stager/stage"
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
			// source-controller takes it along, and so does ChartMuseum, from the same Secret.
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

// hosts of URLs; those that are empty have none.
func hosts(raw ...string) (out []string, err error) {
	for _, r := range raw {
		u, err := url.Parse(r)
		if err != nil {
			return nil, errors.New("the URL of ChartMuseum does not parse")
		}
		if u.Host != "" {
			out = append(out, u.Host)
		}
	}
	return out, nil
}

// guard keeps the password of the staging repository from other hosts: who writes a
// group may name any Secret that the stager can read, and any URL.
type guard struct {
	login login
	// secret is the one that HelmRepositories name.
	secret client.ObjectKey
	hosts  []string
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
	if u, err := url.Parse(raw); err == nil && slices.Contains(g.hosts, u.Host) {
		return nil
	}
	return refusal.Becausef(v1alpha1.ReasonAuthenticationFailed,
		"Secret %s, which authSecretRef names, is that of the staging repository, and is shown to %s only; name one of the registry's own",
		client.ObjectKeyFromObject(secret), strings.Join(g.hosts, " and "))
}

// discreet is an error that does not repeat what was shown to the museum.
func discreet(err error, username, password string) error {
	return registry.Discreet(err, password, registry.Basic(username, password))
}

// alignEvery is how often HelmRepositories are looked at that know another Secret.
const alignEvery = time.Minute

// knows tells whether a HelmRepository names the Secret that it is to name. One that
// needs none may name somebody else's.
func knows(have, want *sourcev1.HelmRepository) bool {
	return want.Spec.SecretRef == nil || have.Spec.SecretRef != nil && *have.Spec.SecretRef == *want.Spec.SecretRef
}

// keepAligned looks at once, and then now and then: an older replica of ours may still
// make HelmRepositories without a Secret.
func (s *stager) keepAligned(ctx context.Context) error {
	const trouble = "not all HelmRepositories name the Secret of the staging repository"
	if err := s.align(ctx); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, trouble, "err", err)
	}
	s.nowAndThen(ctx, alignEvery, trouble, s.align)
	return nil
}

// align has HelmRepositories name the Secret of the staging repository that were made
// when it had none, or another: source-controller looks at them long after their group
// was staged, such as when it has lost its store. Those of another URL wait for their
// group's next rollout, which brings the charts there.
func (s *stager) align(ctx context.Context) error {
	var repos sourcev1.HelmRepositoryList
	if err := s.client.List(ctx, &repos, client.InNamespace(s.namespace), ours()); err != nil {
		return fmt.Errorf("listing HelmRepositories: %w", err)
	}
	repos.Items = slices.DeleteFunc(repos.Items, func(r sourcev1.HelmRepository) bool {
		want := stage.HelmRepository(&v1alpha1.ApplicationGroup{ObjectMeta: r.ObjectMeta}, s.namespace, s.staging)
		return knows(&r, want) || r.Spec.URL != want.Spec.URL
	})
	if len(repos.Items) == 0 {
		return nil
	}
	var groups v1alpha1.ApplicationGroupList
	if err := s.client.List(ctx, &groups); err != nil {
		return fmt.Errorf("listing groups: %w", err)
	}
	var errs []error
	for i := range repos.Items {
		at := slices.IndexFunc(groups.Items, func(g v1alpha1.ApplicationGroup) bool { return g.Name == repos.Items[i].Name })
		if at < 0 {
			continue // it goes with its group
		}
		p := &provision{stager: s, group: &groups.Items[at], applied: map[string]time.Time{}}
		if p.ours(&repos.Items[i]) {
			errs = append(errs, p.apply(ctx, stage.HelmRepository(p.group, s.namespace, s.staging)))
		}
	}
	return errors.Join(errs...)
}
