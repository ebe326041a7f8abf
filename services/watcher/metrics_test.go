package watcher

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/api/v1alpha1"
)

func TestGroupsAreCounted(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	held := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "held"}}
	held.Spec.Suspend = true
	fresh := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "new", CreationTimestamp: metav1.NewTime(now.Add(-90 * time.Second))}}
	broken := false
	reader := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).WithObjects(held, fresh).Build(), interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if broken {
				return errors.New("the cache is not in step")
			}
			return c.List(ctx, list, opts...)
		},
	})
	m := newGroupMetrics(reader, func() time.Time { return now })
	want := `
# HELP orkestra_groups ApplicationGroups, by what they are doing: ready, degraded, progressing, failed, suspended, deleting.
# TYPE orkestra_groups gauge
orkestra_groups{state="degraded"} 0
orkestra_groups{state="deleting"} 0
orkestra_groups{state="failed"} 0
orkestra_groups{state="progressing"} 1
orkestra_groups{state="ready"} 0
orkestra_groups{state="suspended"} 1
# HELP orkestra_rollout_oldest_seconds For how long the group that has been on its way the longest has been; 0 where none is.
# TYPE orkestra_rollout_oldest_seconds gauge
orkestra_rollout_oldest_seconds 90
`
	if err := testutil.CollectAndCompare(m, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	broken = true
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m)
	if _, err := registry.Gather(); err == nil || !strings.Contains(err.Error(), "not in step") {
		t.Errorf("a scrape that cannot read the groups says %v", err)
	}
}
