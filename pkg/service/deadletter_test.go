package service

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

// managed is a manager of which only the client is used.
type managed struct {
	ctrl.Manager
	client client.Client
}

func (m managed) GetClient() client.Client { return m.client }

// told are the Kubernetes events that the cluster has.
func told(t *testing.T, c client.Client) []corev1.Event {
	t.Helper()
	var list corev1.EventList
	if err := c.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// A service that gives up on events says so at their groups, once for each, and without the error, which
// may quote what not everybody may see. One of a group that is gone, or of none, is told to nobody.
func TestDeadLettersAreTold(t *testing.T) {
	const secret = "c4n4ry"
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "u"}}
	cluster := fake.NewClientBuilder().WithScheme(scheme).WithObjects(group).Build()
	e := &Env{Manager: managed{client: cluster}, Source: "orkestra://test/stager", Log: slog.New(slog.DiscardHandler)}
	s := Service{Name: "stager"}
	nats := eventstest.Single(t)
	wired := (&shared{}).bus(s, e)
	bus := eventstest.Bus(t, nats.URL(), s.Name, func(o *events.Options) { o.Buried = wired.Buried })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- bus.Consume(ctx, s.Name, 1, func(context.Context, events.Fact) ([]events.Fact, error) {
			return nil, events.Terminal("Hopeless", errors.New(secret))
		})
	}()
	desired := func(group, uid string) events.Fact {
		return events.New(events.Rollout{Group: group, UID: uid, Generation: 3}, events.GroupDesired{})
	}
	if err := bus.Say(t.Context(), desired("gone", "other"), desired(group.Name, string(group.UID))); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, 20*time.Second, "a dead letter is told", func() bool { return len(told(t, cluster)) > 0 })
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, again := range []events.Fact{desired(group.Name, string(group.UID)), {}} {
		wired.Buried(t.Context(), again, "Hopeless")
	}

	all := told(t, cluster)
	if len(all) != 1 {
		t.Fatalf("%d events are told, want 1: %+v", len(all), all)
	}
	got := all[0]
	if got.InvolvedObject.Name != "shop" || got.Type != corev1.EventTypeWarning || got.Reason != "DeadLetter" || got.Source.Component != "orkestra-stager" {
		t.Errorf("told is a %s %s of %s, by %s", got.Type, got.Reason, got.InvolvedObject.Name, got.Source.Component)
	}
	for _, want := range []string{"stager gave up on event group.desired/u/3", "generation 3", "Hopeless", "orkestra dlq list --group shop"} {
		if !strings.Contains(got.Message, want) {
			t.Errorf("the message does not say %q: %s", want, got.Message)
		}
	}
	if strings.Contains(got.Message, secret) {
		t.Errorf("the message quotes the error: %s", got.Message)
	}
}
