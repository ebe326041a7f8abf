package events

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

const (
	// requestTimeout bounds one request to the server; retries are on top.
	requestTimeout = 5 * time.Second
	// readyTimeout bounds a readiness probe, whose own default is one second.
	readyTimeout = time.Second
)

// Options of Connect. Only Source is required.
type Options struct {
	// URL of the servers, separated by commas. Default nats://127.0.0.1:4222.
	URL string
	// Source is the CloudEvents source of what this Bus says. It names the
	// cluster and the service, e.g. orkestra://prod/stager, and never a pod:
	// replicas are one source.
	Source string
	// Name of the connection, and the label service of the metrics. Default is
	// the last element of Source.
	Name string

	// NKeyFile (a user's seed), CredsFile, User and Password, or Token identify the
	// service, where asked for. Files are read again at each connection.
	NKeyFile, CredsFile, User, Password, Token string
	// InProcess is a server in this process: it is connected to by memory, and URL is not used.
	InProcess nats.InProcessConnProvider
	// TLS, or CAFile and CertFile with KeyFile, where the server wants it. Files are
	// read again at each connection.
	TLS                       *tls.Config
	CAFile, CertFile, KeyFile string
	// InboxPrefix, where the account's permissions ask for one. Default _INBOX.
	InboxPrefix string

	// Logger gets one line per event that is handled, and the connection's
	// trouble. Default is silence.
	Logger *slog.Logger
	// TracerProvider takes the spans, see TraceIDs. Default is that there are none.
	TracerProvider trace.TracerProvider
	// Registerer for the metrics; default is not to register them.
	Registerer prometheus.Registerer

	// Topology to ensure and consume from. Default DefaultTopology().
	Topology Topology
	// Replicas of the streams. Default is to leave what exists as it is, and to
	// create with one.
	Replicas int

	// Buried, where set, is told of each dead letter that is stored: the fact as far as it
	// could be read, and the reason. It may be told twice, and holds up the consumer.
	Buried func(ctx context.Context, f Fact, reason string)
	// Away, where set, says of a handler's error that what the handler works with is out of
	// reach. That is waiting, as with RetryAfter, and not failing.
	Away func(err error) bool
	// MaxAttempts is how often handling an event may fail, or kill its handler,
	// before it becomes a dead letter. Default 10.
	MaxAttempts uint64
	// Backoff is the delay after failed attempt n, counted from 1. The default,
	// DefaultBackoff, spends about 13 minutes on 10 attempts.
	Backoff func(n uint64) time.Duration
	// MaxWait is how old an event may become by RetryAfter. Default 7 days; less
	// than the retention of the stream, so that nothing is forgotten silently.
	MaxWait time.Duration
	// HandleTimeout bounds one visit of an event at its handler. Default 15 minutes.
	HandleTimeout time.Duration
	// Grace is how long the events in hand may take when Consume is asked to
	// stop. Default 25 s, which fits into the 30 s that Kubernetes gives a pod.
	Grace time.Duration
	// SayTimeout bounds Say for one fact, retries included. Default 30 s.
	SayTimeout time.Duration
}

func (o *Options) setDefaults() error {
	u, err := url.Parse(o.Source)
	if err != nil {
		return fmt.Errorf("parsing the source: %w", err)
	}
	if u.Scheme == "" || u.Host == "" || path.Base(u.Path) == "." || path.Base(u.Path) == "/" {
		return fmt.Errorf("source %q: want a URI that names the cluster and the service, such as orkestra://prod/stager", o.Source)
	}
	o.URL = cmp.Or(o.URL, nats.DefaultURL)
	o.Name = cmp.Or(o.Name, path.Base(u.Path))
	o.MaxAttempts = cmp.Or(o.MaxAttempts, 10)
	o.MaxWait = cmp.Or(o.MaxWait, 7*day)
	o.HandleTimeout = cmp.Or(o.HandleTimeout, 15*time.Minute)
	o.Grace = cmp.Or(o.Grace, 25*time.Second)
	o.SayTimeout = cmp.Or(o.SayTimeout, 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Backoff == nil {
		o.Backoff = DefaultBackoff
	}
	if o.Topology.Streams == nil {
		o.Topology = DefaultTopology()
	}
	return nil
}

// DefaultBackoff doubles from 1 s to 5 min, with a jitter of a fifth either
// way, so that what failed together does not come back together.
func DefaultBackoff(n uint64) time.Duration {
	const first, last = time.Second, 5 * time.Minute
	d := last
	if n = max(n, 1); n < 10 {
		d = min(first<<(n-1), last)
	}
	return d - d/5 + rand.N(2*d/5)
}

// Bus is a connection to the streams. It is safe for concurrent use.
type Bus struct {
	opts    Options
	nc      *nats.Conn
	js      jetstream.JetStream
	log     *slog.Logger
	metrics *metrics
	// tracer is nil where nothing is traced.
	tracer trace.Tracer
	// ensured: EnsureTopology was called, so Consume may make again what is lost.
	ensured atomic.Bool
	// streams are handles by name.
	streams sync.Map
	said    sayings
	closed  chan struct{}
}

// Connect returns a Bus whether or not a server is there: it connects when one
// is, and again whenever the connection is lost. Ready says how it stands. An
// error means that the options cannot work.
func Connect(_ context.Context, o Options) (*Bus, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Name, o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	b := &Bus{
		opts:    o,
		log:     o.Logger,
		metrics: m,
		closed:  make(chan struct{}),
	}
	if o.TracerProvider != nil {
		b.tracer = o.TracerProvider.Tracer("orkestra.dev/pkg/events")
	}
	options, err := b.connOptions()
	if err != nil {
		return nil, err
	}
	if b.nc, err = nats.Connect(o.URL, options...); err != nil {
		return nil, fmt.Errorf("connecting to NATS: %w", err)
	}
	if b.js, err = jetstream.New(b.nc, jetstream.WithDefaultTimeout(requestTimeout)); err != nil {
		b.nc.Close()
		return nil, fmt.Errorf("using JetStream: %w", err)
	}
	return b, nil
}

func (b *Bus) connOptions() ([]nats.Option, error) {
	o := b.opts
	options := []nats.Option{
		nats.Name(o.Name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.ReconnectJitter(500*time.Millisecond, time.Second),
		// What cannot be sent fails at once and is retried here, with the same id,
		// rather than sent later by a buffer that nobody looks into.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(20 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(func(nc *nats.Conn) { b.log.Info("connected to NATS", "server", nc.ConnectedServerName()) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { b.log.Info("connected to NATS again", "server", nc.ConnectedServerName()) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.log.Warn("lost the connection to NATS", "error", err)
			}
		}),
		// A request that permissions forbid looks like a timeout to its caller;
		// only here is it called by its name.
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			b.log.Error("NATS reports an error", "subject", subject, "error", err)
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(b.closed) }),
	}
	if o.InProcess != nil {
		options = append(options, nats.InProcessServer(o.InProcess))
	}
	if o.NKeyFile != "" {
		nkey, err := nats.NkeyOptionFromSeed(o.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading the NKey %s: %w", o.NKeyFile, err)
		}
		options = append(options, nkey)
	}
	if o.CredsFile != "" {
		options = append(options, nats.UserCredentials(o.CredsFile))
	}
	if o.User != "" {
		options = append(options, nats.UserInfo(o.User, o.Password))
	}
	if o.Token != "" {
		options = append(options, nats.Token(o.Token))
	}
	if o.TLS != nil {
		options = append(options, nats.Secure(o.TLS))
	}
	if o.CAFile != "" {
		options = append(options, nats.RootCAs(o.CAFile))
	}
	if o.CertFile != "" {
		options = append(options, nats.ClientCert(o.CertFile, o.KeyFile))
	}
	if o.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(o.InboxPrefix))
	}
	return options, nil
}

// Ready says whether events can be said and heard now: connected, and the
// stream there with a leader. It takes a second at most.
func (b *Bus) Ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	return b.ready(ctx)
}

// Healthz is Ready in the shape of a controller-runtime healthz.Checker.
func (b *Bus) Healthz(r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	return b.ready(ctx)
}

func (b *Bus) ready(ctx context.Context) error {
	if s := b.nc.Status(); s != nats.CONNECTED {
		return fmt.Errorf("connection to NATS: %s", s)
	}
	s, err := b.js.Stream(ctx, StreamEvents)
	if err != nil {
		return fmt.Errorf("reaching stream %s: %w", StreamEvents, err)
	}
	if c := s.CachedInfo().Cluster; c != nil && c.Leader == "" {
		return fmt.Errorf("stream %s has no leader", StreamEvents)
	}
	return nil
}

// Close sends what is buffered and disconnects, in five seconds at most. Call
// it after Consume has returned.
func (b *Bus) Close() error {
	if b.nc.IsClosed() {
		return nil
	}
	defer b.nc.Close()
	if b.nc.Status() != nats.CONNECTED {
		return nil
	}
	if err := b.nc.Drain(); err != nil {
		return fmt.Errorf("draining the connection to NATS: %w", err)
	}
	select {
	case <-b.closed:
		return nil
	case <-time.After(requestTimeout):
		return errors.New("draining the connection to NATS: not done in time")
	}
}

// transient reports whether the same request may succeed later: the server is
// away, has no leader, or did not answer.
func transient(err error) bool {
	if code, status := apiCode(err); code != 0 {
		return code == codeDuplicateInProcess || status >= 500 && code != codeReplicasNotSupported
	}
	for _, t := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, jetstream.ErrNoStreamResponse,
		nats.ErrReconnectBufExceeded, nats.ErrDisconnected, nats.ErrConnectionReconnecting,
	} {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// apiCode is the JetStream error code of err and its HTTP-like status; 0 where
// err is none.
func apiCode(err error) (code jetstream.ErrorCode, status int) {
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		return e.ErrorCode, e.Code
	}
	if e, ok := errors.AsType[jetstream.JetStreamError](err); ok && e.APIError() != nil {
		return e.APIError().ErrorCode, e.APIError().Code
	}
	return 0, 0
}

// pause waits for d; false where ctx was done before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
