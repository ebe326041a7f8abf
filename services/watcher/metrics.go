package watcher

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/watcher/observe"
)

// scrapeTimeout bounds the look at the cache that a scrape takes. It is the default of
// Prometheus's scrape_timeout.
const scrapeTimeout = 10 * time.Second

// groupMetrics counts the groups when it is asked. Each replica sees all groups, and says
// the same.
type groupMetrics struct {
	groups client.Reader
	now    func() time.Time

	states, oldest *prometheus.Desc
}

func setupMetrics(e *service.Env, _ int) error {
	if err := e.Registerer.Register(newGroupMetrics(e.Manager.GetClient(), time.Now)); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}

func newGroupMetrics(groups client.Reader, now func() time.Time) *groupMetrics {
	return &groupMetrics{
		groups: groups,
		now:    now,
		states: prometheus.NewDesc("orkestra_groups",
			"ApplicationGroups, by what they are doing: ready, degraded, progressing, failed, suspended, deleting.", []string{"state"}, nil),
		oldest: prometheus.NewDesc("orkestra_rollout_oldest_seconds",
			"For how long the group that has been on its way the longest has been; 0 where none is.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *groupMetrics) Describe(descs chan<- *prometheus.Desc) {
	descs <- m.states
	descs <- m.oldest
}

// Collect implements prometheus.Collector.
func (m *groupMetrics) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	list := &v1alpha1.ApplicationGroupList{}
	if err := m.groups.List(ctx, list); err != nil {
		out <- prometheus.NewInvalidMetric(m.states, fmt.Errorf("listing the groups: %w", err))
		return
	}
	counts := map[observe.State]int{}
	var oldest time.Duration
	for i := range list.Items {
		counts[observe.StateOf(&list.Items[i])]++
		oldest = max(oldest, observe.UnderWay(&list.Items[i], m.now()))
	}
	for _, state := range observe.States() {
		out <- prometheus.MustNewConstMetric(m.states, prometheus.GaugeValue, float64(counts[state]), string(state))
	}
	out <- prometheus.MustNewConstMetric(m.oldest, prometheus.GaugeValue, oldest.Seconds())
}
