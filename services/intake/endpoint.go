package intake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/intake/receive"
)

const (
	// storeTime is how long the stream has to store what was said.
	storeTime = 2 * time.Second
	// readTime is how long a sender may take for a body.
	readTime = 10 * time.Second
	// idleTime is how long a connection may say nothing, a new one too: HTTP clients open some
	// in advance, and a request that goes out while its connection is closed has no answer.
	// It is longer than such clients keep theirs.
	idleTime = 2 * time.Minute
	// maxHeader of a request, in bytes.
	maxHeader = 32 << 10
	// retrySeconds is when a sender is to come again.
	retrySeconds = 5
)

// What became of a delivery, the label outcome of orkestra_webhooks_total.
const (
	webhookAccepted    = "accepted"
	webhookIgnored     = "ignored"
	webhookRefused     = "refused"
	webhookUnverified  = "unverified"
	webhookLimited     = "limited"
	webhookUnavailable = "unavailable"
	webhookUnknown     = "unknown"
)

// endpoint is the HTTP server of the webhooks.
type endpoint struct {
	client    client.Client
	listeners *listeners
	namespace string
	say       func(context.Context, ...events.Fact) error
	log       *slog.Logger
	now       func() time.Time
	inHand    *semaphore.Weighted
	// bodyTime is how long a sender may take for a body.
	bodyTime time.Duration
	total    *prometheus.CounterVec
	took     *prometheus.HistogramVec
}

// newMetrics adds the counters of the endpoint.
func (e *endpoint) newMetrics(r prometheus.Registerer) error {
	e.total = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "orkestra_webhooks_total", Help: "Requests to the webhooks, by type of receiver and what became of them.",
	}, []string{"type", "outcome"})
	e.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "orkestra_webhook_duration_seconds", Help: "Time from a request's header to its answer.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"type"})
	return errors.Join(r.Register(e.total), r.Register(e.took))
}

// serve listens until ctx is done, from when the receivers are known on; in plain HTTP where
// there is no config.
func (e *endpoint) serve(addr string, config *tls.Config, load func(context.Context) error) manager.RunnableFunc {
	return func(ctx context.Context) error {
		if err := load(ctx); err != nil {
			return err
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("listening for webhooks: %w", err)
		}
		if config != nil {
			l = tls.NewListener(l, config)
		}
		return (&manager.Server{Name: "webhooks", Listener: l, Server: e.server()}).Start(ctx)
	}
}

func (e *endpoint) server() *http.Server {
	return &http.Server{
		Handler: e, MaxHeaderBytes: maxHeader, ReadHeaderTimeout: idleTime, IdleTimeout: idleTime,
		WriteTimeout: e.bodyTime + handWait + storeTime + 5*time.Second,
		ErrorLog:     slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}
}

// answer to a sender.
type answer struct {
	status  int
	outcome string
	body    map[string]string
	// again is when to come again, in seconds, where that helps.
	again int
}

func problem(status int, outcome, reason string) answer {
	return answer{status: status, outcome: outcome, body: map[string]string{"error": reason}}
}

// unavailable asks the sender to come again.
func unavailable(reason string) answer {
	a := problem(http.StatusServiceUnavailable, webhookUnavailable, reason)
	a.again = retrySeconds
	return a
}

// ServeHTTP answers one delivery.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	begin := e.now()
	// From here on, and not from when the connection was made: it may have waited.
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(e.bodyTime)); err != nil {
		e.log.DebugContext(req.Context(), "bounding the time of a webhook's body", "error", err)
	}
	at, kind := e.listeners.at(req.URL.Path), "unknown"
	a := problem(http.StatusNotFound, webhookUnknown, "there is no such webhook")
	if at != nil {
		kind = string(at.receiver.Spec.Type)
		a = e.take(w, req, at)
	}
	e.total.WithLabelValues(kind, a.outcome).Inc()
	e.took.WithLabelValues(kind).Observe(e.now().Sub(begin).Seconds())
	w.Header().Set("Content-Type", "application/json")
	if a.again > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(a.again))
	}
	w.WriteHeader(a.status)
	if err := json.NewEncoder(w).Encode(a.body); err != nil {
		e.log.DebugContext(req.Context(), "answering a webhook", "error", err)
	}
}

// take a delivery in, when it is its turn.
func (e *endpoint) take(w http.ResponseWriter, req *http.Request, at *listener) answer {
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return problem(http.StatusMethodNotAllowed, webhookRefused, "send a POST")
	}
	letGo, ok := e.hold(req, at)
	if !ok {
		return unavailable("there are too many deliveries at a time")
	}
	defer letGo()
	body, err := read(w, req)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return problem(http.StatusRequestEntityTooLarge, webhookRefused, fmt.Sprintf("the body has more than %d bytes", receive.MaxBody))
	}
	if err != nil {
		return problem(http.StatusBadRequest, webhookRefused, "the body did not come in time, or not whole")
	}
	d, err := receive.Receive(&at.receiver.Spec, at.token, req.Header, body, e.now())
	if refusal, ok := errors.AsType[*receive.Refusal](err); ok {
		return e.refused(req.Context(), at, refusal)
	}
	if err != nil {
		return problem(http.StatusBadRequest, webhookRefused, "the delivery cannot be read")
	}
	if wait := at.over(e.now()); wait > 0 {
		a := problem(http.StatusTooManyRequests, webhookLimited, "there are more deliveries than spec.rateLimit of the Receiver lets in")
		a.again = int(math.Ceil(wait.Seconds()))
		return a
	}
	if d.Ignored != "" {
		return answer{status: http.StatusOK, outcome: webhookIgnored, body: map[string]string{"ignored": d.Ignored}}
	}
	return e.store(req.Context(), at.receiver, d)
}

// read the body of a delivery, into as much room as it says that it needs.
func read(w http.ResponseWriter, req *http.Request) ([]byte, error) {
	var b bytes.Buffer
	if 0 < req.ContentLength && req.ContentLength <= receive.MaxBody {
		b.Grow(int(req.ContentLength) + bytes.MinRead)
	}
	_, err := b.ReadFrom(http.MaxBytesReader(w, req.Body, receive.MaxBody))
	return b.Bytes(), err
}

// over says in how long the limit lets the next delivery in; zero is now.
func (l *listener) over(now time.Time) time.Duration {
	reservation := l.limit.ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

func (e *endpoint) refused(ctx context.Context, at *listener, r *receive.Refusal) answer {
	outcome := webhookRefused
	if r.Status == http.StatusUnauthorized {
		outcome = webhookUnverified
	}
	e.log.InfoContext(ctx, "refused a delivery", "namespace", at.receiver.Namespace, "receiver", at.receiver.Name, "status", r.Status, "reason", r.Reason)
	return problem(r.Status, outcome, r.Reason)
}

// store says what was delivered: the sender is let go when the stream has it.
func (e *endpoint) store(ctx context.Context, receiver *v1alpha1.Receiver, d receive.Delivery) answer {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	p := events.WebhookReceived{
		Namespace: receiver.Namespace, Receiver: receiver.Name,
		ReceiverUID: string(receiver.UID), ReceiverGeneration: receiver.Generation, ReceiverType: string(receiver.Spec.Type),
		Delivery: d.ID, Event: d.Event, Charts: d.Charts, Reconcile: d.Reconcile, DryRun: receiver.Spec.DryRun,
	}
	for i, deploy := range d.Deploys {
		request := events.DeployRequest{Group: deploy.Group, Application: deploy.Application, Version: deploy.Version}
		if deploy.Values != nil {
			secret := e.secret(receiver, d.ID, i, deploy)
			if err := e.client.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
				e.log.ErrorContext(ctx, "keeping the values of a deploy request", "namespace", receiver.Namespace, "receiver", receiver.Name, "error", apierrors.ReasonForError(err))
				return unavailable("the values cannot be kept now")
			}
			request.ValuesSecret = secret.Name
		}
		p.Deploys = append(p.Deploys, request)
	}
	f := events.New(events.Rollout{}, p)
	switch err := e.say(ctx, f); {
	case events.TerminalReason(err) == events.ReasonEventTooLarge:
		return problem(http.StatusRequestEntityTooLarge, webhookRefused, "the delivery speaks of too much: send it in parts")
	case err != nil:
		e.log.WarnContext(ctx, "a delivery cannot be stored", "namespace", receiver.Namespace, "receiver", receiver.Name, "error", err)
		return unavailable("the delivery cannot be stored now: send it again")
	}
	return answer{status: http.StatusAccepted, outcome: webhookAccepted, body: map[string]string{"id": f.EventID()}}
}

// keyValues is the key of the values in a Secret of a delivery.
const keyValues = "values"

// secret holds the values of a deploy request until they are written. Its name tells
// nothing of them.
func (e *endpoint) secret(receiver *v1alpha1.Receiver, delivery string, i int, d receive.Deploy) *corev1.Secret {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", receiver.UID, delivery, i))
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: e.namespace, Name: "delivery-" + hex.EncodeToString(sum[:16]),
			Labels: map[string]string{v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelDelivery: string(receiver.UID)},
		},
		Type: v1alpha1.SecretTypeDelivery, Immutable: new(true), Data: map[string][]byte{keyValues: d.Values},
	}
	if receiver.Namespace == e.namespace {
		if err := controllerutil.SetOwnerReference(receiver, s, e.client.Scheme()); err != nil {
			e.log.Error("owning the values of a deploy request", "receiver", receiver.Name, "error", err) // the sweep finds it
		}
	}
	return s
}
