package execute_test

import (
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/executor/execute"
)

const startedAt = "2024-05-06T07:08:09.123456789Z"

// marks are those that Desired and Marked add at now.
func marks(more map[string]string) map[string]string {
	m := map[string]string{
		v1alpha1.AnnotationGroupUID:    groupUID,
		v1alpha1.AnnotationRollout:     `{"group":"shop","uid":"uid-shop","generation":2}`,
		v1alpha1.AnnotationWorkflow:    workflow,
		v1alpha1.AnnotationWorkflowUID: wfUID,
		v1alpha1.AnnotationNode:        "a.one",
		v1alpha1.AnnotationStartedAt:   startedAt,
		v1alpha1.AnnotationTask:        "a.one",
	}
	for k, v := range more {
		m[k] = v
	}
	return m
}

func TestDesired(t *testing.T) {
	stripped := func(hr *helmv2.HelmRelease) { hr.Spec = helmv2.HelmReleaseSpec{} }

	for name, tc := range map[string]struct {
		reason string
		have   *helmv2.HelmRelease
		want   func(hr *helmv2.HelmRelease)
	}{
		"New": {
			reason: "a new release has helm-controller's finalizer, and nothing that could make it an update",
			want: func(hr *helmv2.HelmRelease) {
				hr.Annotations = marks(nil)
				hr.Finalizers = []string{helmv2.HelmReleaseFinalizer}
			},
		},
		"Existing": {
			reason: "an existing release gets the plan's spec whole, keeps what others added to its metadata, and is fenced",
			have: existing("a.one", stripped, func(hr *helmv2.HelmRelease) {
				hr.Labels["team"], hr.Annotations["note"] = "blue", "x"
				hr.Annotations[v1alpha1.AnnotationSubchart] = "of an older spec"
				hr.Finalizers = []string{"example.com/keep"}
				hr.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}}
			}),
			want: func(hr *helmv2.HelmRelease) {
				hr.UID, hr.ResourceVersion, hr.Generation = "uid-a.one", "7", 1
				hr.Labels["team"] = "blue"
				hr.Annotations = marks(map[string]string{"note": "x"})
				hr.Finalizers = []string{"example.com/keep", helmv2.HelmReleaseFinalizer}
			},
		},
		"FailedBefore": {
			reason: "a release that failed is tried again even where its spec is the same",
			have:   existing("a.one", failed),
			want: func(hr *helmv2.HelmRelease) {
				hr.UID, hr.ResourceVersion, hr.Generation = "uid-a.one", "7", 1
				hr.Annotations = marks(map[string]string{
					"reconcile.fluxcd.io/requestedAt": startedAt,
					"reconcile.fluxcd.io/resetAt":     startedAt,
				})
				hr.Finalizers = []string{helmv2.HelmReleaseFinalizer}
			},
		},
		"AtWorkBefore": {
			reason: "helm-controller is not disturbed at its work",
			have:   existing("a.one", progressing),
			want: func(hr *helmv2.HelmRelease) {
				hr.UID, hr.ResourceVersion, hr.Generation = "uid-a.one", "7", 1
				hr.Annotations = marks(nil)
				hr.Finalizers = []string{helmv2.HelmReleaseFinalizer}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			plan, before := wanted("a.one"), tc.have.DeepCopy()
			got, err := execute.Desired(owner, "a.one", plan, tc.have, now)
			if err != nil {
				t.Fatal(err)
			}
			want := wanted("a.one")
			want.Labels[v1alpha1.LabelGeneration] = "2"
			tc.want(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(wanted("a.one"), plan); diff != "" {
				t.Errorf("the plan is not changed:\n%s", diff)
			}
			if diff := cmp.Diff(before, tc.have); diff != "" {
				t.Errorf("what was seen is not changed:\n%s", diff)
			}
		})
	}
}

func TestAppliedReleaseIsWaitedFor(t *testing.T) {
	// What Apply writes, Next must recognise: else it would write for ever.
	s := newWorld(waits("a.one"), there("a.one", failed))
	applied := next(t, s).Apply[0].Release
	s.Releases[execute.KeyOf(applied)] = applied
	s.Now = now.Add(time.Second)
	if diff := cmp.Diff(summary{}, summarize(next(t, s))); diff != "" {
		t.Errorf("a release that was just asked to be tried again is in flight (-want +got):\n%s", diff)
	}
	applied.Status = existing("a.one").Status
	applied.Status.LastHandledReconcileAt = startedAt
	if diff := cmp.Diff(summary{Succeed: []string{"a.one"}}, summarize(next(t, s))); diff != "" {
		t.Errorf("and is done when helm-controller has handled the request (-want +got):\n%s", diff)
	}
}

func TestMarkedReleaseIsDeleted(t *testing.T) {
	s := newWorld(goes("a.one"), there("a.one"))
	d := next(t, s).Delete[0]
	if d.Mark == nil || d.Mark.ResourceVersion != "7" {
		t.Fatalf("a release that somebody else wrote is marked first, fenced by what was seen: %+v", d.Mark)
	}
	if diff := cmp.Diff(marks(nil), d.Mark.Annotations); diff != "" {
		t.Errorf("the marks route the events of the deletion to this workflow (-want +got):\n%s", diff)
	}
	if got := d.Mark.Labels[v1alpha1.LabelGeneration]; got != "2" {
		t.Errorf("nor is it deleted by a generation that is older than the one that wrote it: label %q", got)
	}
	s.Releases[execute.KeyOf(d.Mark)] = d.Mark
	if d = next(t, s).Delete[0]; d.Mark != nil {
		t.Errorf("a release that is marked is not marked again: %+v", d.Mark)
	}
}

func TestNamespaces(t *testing.T) {
	hr := wanted("a.one")
	hr.Spec.StorageNamespace = "orkestra-shop-redis"
	want := []execute.Namespace{{Name: "target"}, {Name: "orkestra-shop-redis", Storage: true}}
	if diff := cmp.Diff(want, execute.Namespaces(hr)); diff != "" {
		t.Errorf("a piece needs its target and its storage (-want +got):\n%s", diff)
	}
	hr.Spec.StorageNamespace = ""
	if diff := cmp.Diff(want[:1], execute.Namespaces(hr)); diff != "" {
		t.Errorf("a chart that is not split needs its target only (-want +got):\n%s", diff)
	}
}
