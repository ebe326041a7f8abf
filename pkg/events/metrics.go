package events

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// unknownType is the label of a type that is not in the contract, which anyone
// may send.
const unknownType = "unknown"

// metrics of one service. No label is a group's name.
type metrics struct {
	service   string
	handled   *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	published *prometheus.CounterVec
	dead      *prometheus.CounterVec
	// Of a consumer, all its replicas together.
	pending, inHand, acknowledged *prometheus.GaugeVec
}

func newMetrics(service string, r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		service: service,
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orkestra_events_handled_total",
			Help: "Deliveries of events to a handler, by what became of them.",
		}, []string{"service", "type", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "orkestra_events_handle_duration_seconds",
			Help:    "Time that a handler took for one delivery, saying what it returned included.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"service", "type"}),
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orkestra_events_published_total",
			Help: "Facts said, by what became of them: stored, duplicate, superseded, failed.",
		}, []string{"service", "type", "outcome"}),
		dead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orkestra_events_dead_letters_total",
			Help: "Events that the service gave up on.",
		}, []string{"service", "type"}),
	}
	for gauge, help := range map[**prometheus.GaugeVec][2]string{
		&m.pending:      {"orkestra_events_pending", "Events that the consumer was not given yet."},
		&m.inHand:       {"orkestra_events_in_hand", "Events that were given to a replica and are not acknowledged: handled just now, or waiting for the world."},
		&m.acknowledged: {"orkestra_events_acknowledged", "Sequence of the stream up to which the consumer has acknowledged everything."},
	} {
		*gauge = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: help[0], Help: help[1]}, []string{"consumer"})
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(register(r, &m.handled), register(r, &m.duration), register(r, &m.published), register(r, &m.dead),
		register(r, &m.pending), register(r, &m.inHand), register(r, &m.acknowledged))
}

// register registers *c, or takes what is registered already, so that two buses
// in one process share a registry.
func register[C prometheus.Collector](r prometheus.Registerer, c *C) error {
	err := r.Register(*c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(C); ok {
			*c = existing
			return nil
		}
	}
	return err
}

func typeLabel(f Fact) string {
	if t := f.Type(); t != "" {
		return string(t)
	}
	return unknownType
}

func (m *metrics) observeHandled(f Fact, o outcome, took time.Duration) {
	m.handled.WithLabelValues(m.service, typeLabel(f), string(o)).Inc()
	m.duration.WithLabelValues(m.service, typeLabel(f)).Observe(took.Seconds())
}

func (m *metrics) observePublished(f Fact, outcome string) {
	m.published.WithLabelValues(m.service, typeLabel(f), outcome).Inc()
}

func (m *metrics) observeDead(f Fact) {
	m.dead.WithLabelValues(m.service, typeLabel(f)).Inc()
}

func (m *metrics) observeConsumer(info *jetstream.ConsumerInfo) {
	m.pending.WithLabelValues(info.Name).Set(float64(info.NumPending))
	m.inHand.WithLabelValues(info.Name).Set(float64(info.NumAckPending))
	m.acknowledged.WithLabelValues(info.Name).Set(float64(info.AckFloor.Stream))
}
