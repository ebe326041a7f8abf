package stager

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
	"orkestra.dev/services/stager/stage"
)

// prepareOne resolves, fetches and splits the chart of an application.
func (s *stager) prepareOne(ctx context.Context, app *v1alpha1.Application) (*stage.Application, error) {
	ref := registry.RefOf(app)
	var err error
	if ref.Credentials, err = s.credentials(ctx, app.Spec.Chart.AuthSecretRef); err != nil {
		return nil, err
	}
	r, err := s.registry.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	c, err := s.open(ctx, r)
	if err != nil {
		return nil, err
	}
	// Also of a chart that was read before: another index may have called it rightly.
	if c.Name() != r.Name || c.Version() != r.Version {
		return nil, refusal.Becausef(v1alpha1.ReasonInvalidChart, "the archive is chart %s %s; the index of the repository calls it %s %s",
			c.Name(), c.Version(), r.Name, r.Version)
	}
	a, err := stage.SplitApplication(app, c)
	if err != nil {
		return nil, err
	}
	s.charts.Put(c.Digest(), c, int64(c.Size())) // splitting made it grow
	return a, nil
}

// open fetches a chart and reads it, unless it was read before.
func (s *stager) open(ctx context.Context, r *registry.Resolved) (*stage.Chart, error) {
	if c, ok := s.charts.Get(r.Digest); ok {
		return c, nil
	}
	data, err := s.registry.Fetch(ctx, r)
	if err != nil {
		return nil, err
	}
	if c, ok := s.charts.Get(archive.Digest(data)); ok {
		return c, nil // the index promises no digest
	}
	return stage.Open(data)
}

// credentials of a registry; nil where the spec names no Secret.
func (s *stager) credentials(ctx context.Context, ref *corev1.ObjectReference) (*registry.Credentials, error) {
	if ref == nil || ref.Name == "" {
		return nil, nil
	}
	key := client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}
	if key.Namespace == "" {
		key.Namespace = v1alpha1.DefaultAuthSecretNamespace
	}
	var secret corev1.Secret
	switch err := s.client.Get(ctx, key, &secret); {
	case apierrors.IsNotFound(err):
		return nil, refusal.Becausef(v1alpha1.ReasonAuthenticationFailed, "Secret %s, which authSecretRef names, does not exist", key)
	case apierrors.IsForbidden(err):
		return nil, refusal.Becausef(v1alpha1.ReasonAuthenticationFailed, "the stager may not read Secret %s, which authSecretRef names", key)
	case err != nil:
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	c, err := registry.CredentialsOf(secret.Data)
	if err != nil {
		return nil, refusal.Becausef(v1alpha1.ReasonAuthenticationFailed, "Secret %s: %w", key, err)
	}
	return c, nil
}
