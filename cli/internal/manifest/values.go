package manifest

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/values"
)

// Values that the releases of a group's applications will have, by application, with
// what their valuesFrom refers to among the files.
func (s *Set) Values(ctx context.Context, group *v1alpha1.ApplicationGroup) (map[string]map[string]any, error) {
	out := map[string]map[string]any{}
	for i := range group.Spec.Applications {
		app := &group.Spec.Applications[i]
		v, err := values.Resolve(ctx, reader{set: s}, app.Spec.Release.TargetNamespace, &app.Spec.Release)
		var missing *values.MissingError
		switch {
		case errors.As(err, &missing):
			return nil, fmt.Errorf("application %s: %w; give the manifest of the %s with -f too", app.Name, err, missing.Kind)
		case err != nil:
			return nil, fmt.Errorf("application %s: %w", app.Name, err)
		}
		out[app.Name] = v
	}
	return out, nil
}

// reader reads from the files what else is read from a cluster.
type reader struct {
	client.Reader // nil: nothing is listed
	set           *Set
}

// Get a ConfigMap or a Secret.
func (r reader) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	switch into := into.(type) {
	case *corev1.Secret:
		if data, ok := r.set.Secrets[key]; ok {
			into.Data = data
			return nil
		}
	case *corev1.ConfigMap:
		if found, ok := r.set.ConfigMaps[key]; ok {
			found.DeepCopyInto(into)
			return nil
		}
	}
	return apierrors.NewNotFound(schema.GroupResource{Resource: fmt.Sprintf("%T", into)}, key.Name)
}
