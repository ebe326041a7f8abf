package groupevent

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"orkestra.dev/api/v1alpha1"
)

func TestTell(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).Build()
	group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "u"}}
	remade := group.DeepCopy()
	remade.UID = "another"
	failed := Event{Type: corev1.EventTypeWarning, Reason: "RollbackFailed", Message: strings.Repeat("é", maxNote), Key: "wf"}
	other := failed
	other.Key = "wf-2"
	for _, tell := range []struct {
		group *v1alpha1.ApplicationGroup
		event Event
	}{{group, failed}, {group, failed}, {group, other}, {remade, failed}} {
		if err := Tell(t.Context(), c, "me", tell.group, tell.event, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	var list corev1.EventList
	if err := c.List(t.Context(), &list, client.InNamespace("default")); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 3 {
		t.Errorf("what is told twice is one event, and another workflow or group has its own: got %d events, want 3", len(list.Items))
	}
	for _, e := range list.Items {
		if len(e.Message) > maxNote || !strings.HasSuffix(e.Message, "é...") {
			t.Errorf("a message has what Kubernetes takes, in whole characters: got %d bytes, %q", len(e.Message), e.Message[len(e.Message)-8:])
		}
		if e.InvolvedObject.Name != "shop" || e.InvolvedObject.Kind != v1alpha1.Kind || e.Source.Component != "me" {
			t.Errorf("the event is about %+v, by %s", e.InvolvedObject, e.Source.Component)
		}
	}
}
