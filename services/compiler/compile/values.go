package compile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/values"
)

// valuesKey is where Flux looks for values in a Secret.
const valuesKey = "values.yaml"

// setValues gives a release the part of its application's values that its piece can
// see, so that a value that changes touches only the releases that may change with it.
// What came from a Secret, and what a pod's arguments would show, goes into a Secret,
// to which the release refers.
func (c *compiler) setValues(r *release, piece events.StagedPiece, given map[string]map[string]any) error {
	all, ok := given[r.app.Name]
	if !ok {
		var err error
		if all, err = values.Inline(&r.app.Spec.Release); err != nil {
			return ungenerable("application %s: %w", r.app.Name, err)
		}
	}
	part := values.Prune(all, piece.ValuePaths)
	if len(part) == 0 {
		return nil
	}
	data, err := json.Marshal(part)
	if err != nil {
		return fmt.Errorf("encoding the values of release %s: %w", r.object.Name, err)
	}
	if len(r.app.Spec.Release.ValuesFrom) == 0 && !hasPods(r.app, r.mode) {
		r.object.Spec.Values = &apiextensionsv1.JSON{Raw: data}
		return nil
	}
	r.values = c.valuesSecret(r.object.Namespace, data)
	r.object.Spec.ValuesFrom = []helmv2.ValuesReference{{Kind: r.values.Kind, Name: r.values.Name}}
	return nil
}

// valuesSecret holds values. Its name says what it holds and whose it is.
func (c *compiler) valuesSecret(namespace string, data []byte) *corev1.Secret {
	sum := sha256.Sum256(append([]byte(c.rollout.UID), data...))
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Name:            "orkestra-values-" + hex.EncodeToString(sum[:])[:16],
			Namespace:       namespace,
			Labels:          owned(c.rollout.Group, map[string]string{v1alpha1.LabelValues: "true"}),
			Annotations:     map[string]string{v1alpha1.AnnotationGroupUID: c.rollout.UID},
			OwnerReferences: []metav1.OwnerReference{OwnerReference(c.rollout)},
		},
		Immutable: new(true),
		Data:      map[string][]byte{valuesKey: data},
	}
}

// digest of values, in hexadecimal digits; the order of keys does not matter.
func digest(of ...any) (string, error) {
	data, err := inOrder(of)
	if err != nil {
		return "", fmt.Errorf("encoding what to digest: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}
