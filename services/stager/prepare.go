package stager

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/values"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
	"orkestra.dev/services/stager/stage"
	"orkestra.dev/services/stager/verify"
)

// splitting is how many charts the process opens and splits at a time. A hostile one
// takes all that archive.DefaultLimits leave it, and there may be one in every group:
// this bounds them together, and lets other groups go on beside one.
const splitting = 2

// prepareOne resolves, fetches and splits the chart of an application, as the registry
// has it since then.
func (s *stager) prepareOne(ctx context.Context, app *v1alpha1.Application, since time.Time) (*stage.Application, error) {
	effective, err := s.values(ctx, &app.Spec.Release)
	if err != nil {
		return nil, err
	}
	ref, from := registry.RefOf(app), app.Spec.Chart.URL
	ref.Since = since
	if auth := app.Spec.Chart.AuthSecretRef; auth != nil && auth.Name != "" {
		secret, err := s.secret(ctx, auth.Namespace, auth.Name, "authSecretRef", v1alpha1.ReasonAuthenticationFailed)
		if err != nil {
			return nil, err
		}
		if err := s.guard.check(from, secret); err != nil {
			return nil, err
		}
		if ref.Credentials, err = registry.CredentialsOf(secret.Data); err != nil {
			return nil, refusal.Becausef(v1alpha1.ReasonAuthenticationFailed, "Secret %s: %w", client.ObjectKeyFromObject(secret), err)
		}
		from += " " + string(secret.UID) + " " + secret.ResourceVersion
	}
	r, err := s.registry.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	c, data, err := s.chart(ctx, app, r, from)
	if err != nil {
		return nil, err
	}
	return s.split(ctx, app, r, c, data, from, effective)
}

// values of the application's releases, with what valuesFrom refers to, read now.
func (s *stager) values(ctx context.Context, release *v1alpha1.Release) (map[string]any, error) {
	all, err := values.Resolve(ctx, s.client, release.TargetNamespace, release)
	if missing, ok := errors.AsType[*values.MissingError](err); ok {
		return nil, refusal.Because(v1alpha1.ReasonValuesNotFound, missing)
	}
	if apierrors.IsForbidden(err) {
		return nil, refusal.Becausef(v1alpha1.ReasonValuesNotFound, "the stager may not read what valuesFrom refers to in namespace %s", release.TargetNamespace)
	}
	return all, err
}

// chart is the chart as it was read before, or else the archive. What was read with
// other credentials, or from elsewhere, is nobody else's: an index may promise any digest.
func (s *stager) chart(ctx context.Context, app *v1alpha1.Application, r *registry.Resolved, from string) (*stage.Chart, []byte, error) {
	if app.Spec.Chart.Verify == nil && r.Digest != "" {
		if c, ok := s.charts.Get(from + " " + r.Digest); ok {
			return c, nil, nil
		}
	}
	data, err := s.registry.Fetch(ctx, r)
	if err == nil && app.Spec.Chart.Verify != nil {
		err = s.verify(ctx, *app.Spec.Chart.Verify, r, data)
	}
	return nil, data, err
}

// verify sees to it that the chart proves who made it, by keys that are read now.
func (s *stager) verify(ctx context.Context, v v1alpha1.ChartVerification, r *registry.Resolved, data []byte) error {
	keys, err := s.secret(ctx, v.SecretRef.Namespace, v.SecretRef.Name, "verify.secretRef", v1alpha1.ReasonVerificationFailed)
	if err != nil {
		return err
	}
	var proof verify.Proof
	if v.Provider == v1alpha1.VerifyProvenance {
		proof.Provenance, err = s.registry.Provenance(ctx, r)
	} else {
		var found []registry.Signature
		found, err = s.registry.Signatures(ctx, r)
		for _, f := range found {
			proof.Signatures = append(proof.Signatures, verify.Signature(f))
		}
	}
	if err != nil {
		return err
	}
	chart := verify.Chart{Archive: data, Name: r.Name, Version: r.Version, ManifestDigest: r.ManifestDigest}
	return verify.Check(v, keys.Data, chart, proof, s.now())
}

// split opens the chart, where it was not read before, and splits it as the spec asks.
func (s *stager) split(ctx context.Context, app *v1alpha1.Application, r *registry.Resolved, c *stage.Chart, data []byte, from string, effective map[string]any) (_ *stage.Application, err error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// Helm's code has met charts before that it had no answer to: such a chart must not
	// take the groups along that are staged beside it.
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "panic over a chart", "application", app.Name, "panic", p, "stack", string(debug.Stack()))
			err = refusal.Becausef(v1alpha1.ReasonInvalidChart, "reading the chart went wrong in a way that nobody has foreseen (%v); the stager's log has more", p)
		}
	}()
	if c == nil {
		c, _ = s.charts.Get(from + " " + archive.Digest(data)) // somebody was faster
	}
	if c == nil {
		if c, err = stage.Open(data); err != nil {
			return nil, err
		}
	}
	// Also of a chart that was read before: another index may have called it rightly.
	if c.Name() != r.Name || c.Version() != r.Version {
		return nil, refusal.Becausef(v1alpha1.ReasonInvalidChart, "the archive is chart %s %s; the index of the repository calls it %s %s",
			c.Name(), c.Version(), r.Name, r.Version)
	}
	a, err := stage.SplitApplication(app, c, effective)
	if err != nil {
		return nil, err
	}
	s.charts.Put(from+" "+c.Digest(), c, int64(c.Size())) // splitting made it grow
	return a, nil
}

// secret reads one that a field of the spec names, now: it is never cached.
func (s *stager) secret(ctx context.Context, namespace, name, field, reason string) (*corev1.Secret, error) {
	key := client.ObjectKey{Namespace: namespace, Name: name}
	if key.Namespace == "" {
		key.Namespace = v1alpha1.DefaultAuthSecretNamespace
	}
	var secret corev1.Secret
	switch err := s.client.Get(ctx, key, &secret); {
	case apierrors.IsNotFound(err):
		return nil, refusal.Becausef(reason, "Secret %s, which %s names, does not exist", key, field)
	case apierrors.IsForbidden(err):
		return nil, refusal.Becausef(reason, "the stager may not read Secret %s, which %s names", key, field)
	case err != nil:
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	return &secret, nil
}
