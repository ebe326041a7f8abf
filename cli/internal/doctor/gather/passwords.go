package gather

import (
	"context"
	"slices"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/cli/internal/doctor"
)

// passwords are the Secrets that repositories name, each looked at once: there is one for
// all of them, or two while they change.
func (c *cluster) passwords(ctx context.Context, repositories []sourcev1.HelmRepository) []doctor.Password {
	var names []string
	for i := range repositories {
		if ref := repositories[i].Spec.SecretRef; ref != nil {
			names = append(names, ref.Name)
		}
	}
	slices.Sort(names)
	var out []doctor.Password
	for _, name := range slices.Compact(names) {
		p := doctor.Password{Name: name}
		var secret corev1.Secret
		switch err := c.Get(ctx, client.ObjectKey{Namespace: c.options.Namespace, Name: name}, &secret); {
		case apierrors.IsNotFound(err):
			p.Missing = true
		case err != nil:
			p.Err = err
		default:
			for _, key := range []string{corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey} {
				if len(secret.Data[key]) == 0 {
					p.Lacks = append(p.Lacks, key)
				}
			}
		}
		out = append(out, p)
	}
	return out
}
