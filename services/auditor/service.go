package auditor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service"
)

const serviceName = "auditor"

// New is the auditor as a service.
func New() service.Service {
	var o options
	return service.Service{
		Name:  serviceName,
		Short: "Keep all that the services say in files that show what was altered",
		Long: `The auditor reads all that is said on the stream of events, in order, and writes it
to JSON Lines files in which each record has the hash of the one before. What the
stream has lost is a record too. "orkestra audit verify" checks the files. Each sink
gets the same records, at its own pace: an HTTP endpoint one by one as CloudEvents, a
bucket of an S3-compatible store as objects that are never replaced, and the stream
ORKESTRA_CDEVENTS in the vocabulary of CDEvents.

One auditor writes to a folder at a time. It needs no Kubernetes, and changes nothing
on the stream of events.`,
		Example: `  orkestra-auditor --dir /var/lib/orkestra/audit --nats-url nats://nats:4222 \
    --http-sink siem=https://siem.example/events --http-sink-token-file siem=/etc/siem/token

  # Also to a bucket, with the credentials that the SDKs of AWS find
  orkestra-auditor --dir /var/lib/orkestra/audit --s3-sink archive=https://s3.eu-west-1.amazonaws.com/my-bucket/audit/prod`,
		NoCluster:  true,
		NoTopology: true,
		AddFlags:   o.addFlags,
		Validate:   o.validate,
		Setup:      o.setup,
	}
}

func (o *options) setup(ctx context.Context, e *service.Env) error {
	m, err := newMetrics(e.Registerer)
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	a := &auditor{
		stream: e.Bus, dir: o.dir, rotation: rotation{size: o.size, age: o.age},
		log: e.Log, metrics: m, now: time.Now, progress: newProgress(),
	}
	if a.sinks, err = o.sinksOf(ctx, a, e); err != nil {
		return err
	}
	e.Log.Info("keeping the audit trail", "dir", o.dir, "sinks", len(a.sinks))
	return e.Run(a.run)
}

// sinksOf makes the sinks of an auditor.
func (o *options) sinksOf(ctx context.Context, a *auditor, e *service.Env) ([]*sink, error) {
	var sinks []*sink
	add := func(name string, t target) {
		sinks = append(sinks, &sink{
			name: name, target: t, dir: o.dir, backoff: events.DefaultBackoff, progress: a.progress,
			log: a.log, metrics: a.metrics, now: a.now,
		})
	}
	client := newClient()
	for name, url := range o.endpoints {
		add(name, &endpoint{url: url, tokenFile: o.tokens[name], source: e.Source, client: client})
	}
	var errs []error
	for name, url := range o.buckets {
		b, err := newBucket(ctx, url, o.credentials[name], o.region, o.dir)
		if err != nil {
			errs = append(errs, fmt.Errorf("--s3-sink %s: %w", name, err))
			continue
		}
		b.linger = o.linger
		add(name, b)
	}
	if o.cdevents {
		add(cdeventsName, &vocabulary{bus: e.Bus})
	}
	return sinks, errors.Join(errs...)
}
