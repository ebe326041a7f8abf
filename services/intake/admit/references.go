package admit

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// Use is what a group refers to an object for.
type Use string

// The uses.
const (
	// Values of a release. Every change of them is rolled out.
	Values Use = "values"
	// Credentials for a registry, or keys that verify a chart. A change of them is of
	// interest only to a group whose charts could not be had without.
	Credentials Use = "credentials"
)

// Reference is an object that a group refers to.
type Reference struct {
	// Kind is Secret or ConfigMap.
	Kind, Namespace, Name string
	// Use of it.
	Use Use
}

// References of a group, sorted, each once.
func References(group *v1alpha1.ApplicationGroup) []Reference {
	var out []Reference
	for i := range group.Spec.Applications {
		spec := &group.Spec.Applications[i].Spec
		for _, from := range spec.Release.ValuesFrom {
			out = append(out, Reference{Kind: from.Kind, Namespace: spec.Release.TargetNamespace, Name: from.Name, Use: Values})
		}
		secret := func(namespace, name string) {
			out = append(out, Reference{
				Kind: "Secret", Namespace: cmp.Or(namespace, v1alpha1.DefaultAuthSecretNamespace), Name: name, Use: Credentials,
			})
		}
		if ref := spec.Chart.AuthSecretRef; ref != nil {
			secret(ref.Namespace, ref.Name)
		}
		if verify := spec.Chart.Verify; verify != nil {
			secret(verify.SecretRef.Namespace, verify.SecretRef.Name)
		}
	}
	slices.SortFunc(out, func(a, b Reference) int {
		return cmp.Or(strings.Compare(string(a.Use), string(b.Use)), strings.Compare(a.Kind, b.Kind),
			strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return slices.Compact(out)
}

// Version of an object: its UID and resource version. That of one that is not there is
// empty.
func Version(o metav1.Object) string { return string(o.GetUID()) + "/" + o.GetResourceVersion() }

// record is the value of v1alpha1.AnnotationReferences for a rollout of the group as it is
// seen; empty where the group refers to nothing.
func (s State) record(rollout events.Rollout) string {
	references := References(s.Group)
	if len(references) == 0 {
		return ""
	}
	lines := map[Use][]string{}
	for _, r := range references {
		lines[r.Use] = append(lines[r.Use], fmt.Sprintf("%s %s/%s %s", r.Kind, r.Namespace, r.Name, s.Versions[r]))
	}
	return strings.Join([]string{hash(rollout.ID()), hash(lines[Values]...), hash(lines[Credentials]...)}, "/")
}

// hash is short: what it tells apart are the states of one group.
func hash(lines ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:8])
}

// changes compares what is seen of the references with what was recorded. The record
// is unset where none was made for this rollout; else changed says what has become
// another since, and must be rolled out.
func (s State) changes() (unset bool, changed string) {
	seen := s.record(s.Rollout)
	if seen == "" {
		return false, ""
	}
	have := strings.Split(s.Group.Annotations[v1alpha1.AnnotationReferences], "/")
	want := strings.Split(seen, "/")
	switch {
	case len(have) != len(want) || have[0] != want[0]:
		return true, ""
	case have[1] != want[1]:
		return false, "values that the group refers to have changed"
	case have[2] != want[2] && s.refused():
		return false, "credentials or keys have changed without which a chart was refused"
	}
	return false, ""
}

// refused: a chart could not be had with the credentials, or the keys, that there are.
func (s State) refused() bool {
	c := apimeta.FindStatusCondition(s.Group.Status.Conditions, v1alpha1.ConditionStaged)
	return c != nil && c.Status == metav1.ConditionFalse && c.ObservedGeneration == s.Group.Generation &&
		(c.Reason == v1alpha1.ReasonAuthenticationFailed || c.Reason == v1alpha1.ReasonVerificationFailed)
}
