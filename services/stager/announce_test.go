package stager

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

type listing map[string][]entry

func (s listing) list(_ context.Context, tenant string) ([]entry, error) {
	if tenant == "away" {
		return nil, errors.New("ChartMuseum is away")
	}
	return s[tenant], nil
}

func TestNewChartsAreAnnouncedOnce(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	chart := func(name string, age time.Duration) entry {
		return entry{Name: name, Version: "1.0.0", Digest: name, Created: now.Add(-age)}
	}
	museum := listing{"shop": {chart("late", time.Minute), chart("early", time.Hour), chart("old", 21*time.Hour)}, "more": {chart("other", time.Second)}}
	said, deaf := []string{}, true
	a := &announcer{
		museum: museum,
		stager: &stager{
			client: fake.NewClientBuilder().WithScheme(scheme).
				WithObjects(&v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}).Build(),
			now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler),
		},
		tenants: []string{"shop", "more", "away"},
		say: func(_ context.Context, facts ...events.Fact) error {
			for _, f := range facts {
				if f.EventID() == "chart.pushed/shop/late/1.0.0/sha256:late" && deaf {
					return errors.New("the bus is away")
				}
				said = append(said, f.EventID())
			}
			return nil
		},
	}
	for range 2 {
		if err := a.look(t.Context()); err == nil {
			t.Error("what could not be looked at, or said, is no error")
		}
		deaf = false
	}
	museum["shop"] = append(museum["shop"], chart("new", 0))
	if err := a.look(t.Context()); err == nil {
		t.Error("a tenant that cannot be listed is no error")
	}
	want := []string{
		"chart.pushed/more/other/1.0.0/sha256:other", "chart.pushed/shop/early/1.0.0/sha256:early", // in order of their age
		"chart.pushed/shop/late/1.0.0/sha256:late", // at the second look
		"chart.pushed/shop/new/1.0.0/sha256:new",
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("-want +said:\n%s", diff)
	}
}
