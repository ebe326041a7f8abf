package auditor

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// outcomes of handing a record to a sink.
const (
	outcomeDelivered = "delivered"
	outcomeRetried   = "retried"
	outcomeRefused   = "refused"
	outcomeGone      = "gone"
)

type metrics struct {
	records  *prometheus.CounterVec
	position prometheus.Gauge
	lag      prometheus.Gauge
	lost     prometheus.Counter
	handed   *prometheus.CounterVec
	reached  *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orkestra_audit_records_total", Help: "Records written, by kind: event, gap, stream.",
		}, []string{"kind"}),
		position: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "orkestra_audit_stream_sequence", Help: "Sequence of the stream up to which it is recorded.",
		}),
		lag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "orkestra_audit_lag_messages", Help: "Messages of the stream that are not recorded yet, as the last one that was read tells.",
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orkestra_audit_lost_messages_total", Help: "Messages that the stream had lost before they were read.",
		}),
		handed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orkestra_audit_sink_records_total",
			Help: "Attempts to hand a record to a sink, by what became of them: delivered, retried, refused (and skipped), gone.",
		}, []string{"sink", "outcome"}),
		reached: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "orkestra_audit_sink_record", Help: "Number of the last record that a sink is done with.",
		}, []string{"sink"}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.records, m.position, m.lag, m.lost, m.handed, m.reached} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
