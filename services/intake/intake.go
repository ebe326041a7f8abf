// Package intake is the one way in: it watches ApplicationGroups, refuses what
// cannot be rolled out, says what is desired, and lets a deleted group go when
// everything that was made for it is gone.
package intake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/spf13/pflag"
	"golang.org/x/sync/semaphore"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service"
	"orkestra.dev/services/intake/admit"
)

// listening is how many events are handled side by side at least. One waits for the bus
// most of its time, and a thousand webhooks may come in a second.
const listening = 64

type options struct {
	workers        int
	webhookAddr    string
	webhookCertDir string
	receiverAddr   string
	receiverTLS    certificate
}

// New is the intake as a service.
func New() service.Service {
	var o options
	return service.Service{
		Name:  "intake",
		Short: "Watch ApplicationGroups and say what is desired",
		Long: `Intake watches ApplicationGroups. It refuses a spec that contradicts itself
(at admission, where --webhook-addr is given, and always in the condition
Accepted), puts the finalizer on, says group.desired, group.suspended and
group.deleting, and lets a deleted group go when its releases are gone.

A group that nobody changes is asked for again, by the annotation
orkestra.azure.microsoft.com/requestedAt, when spec.interval has passed since its
last rollout, and when a Secret or ConfigMap has changed that it takes values from,
or a Secret without which a chart was refused. The interval leaves alone a group
that is under way, held, or failed: a failed group is tried again by orkestra retry,
or by a change.

Any number of replicas may run side by side.`,
		Example: `  # Against a cluster and a NATS server that listen on this machine
  orkestra-intake --kubeconfig ~/.kube/config --nats-url nats://127.0.0.1:4222

  # With the admission webhook; the directory holds tls.crt and tls.key
  orkestra-intake --webhook-addr :9443 --webhook-cert-dir /etc/orkestra/webhook

  # With the webhooks of Receivers over TLS; the files are those of a Secret of type kubernetes.io/tls
  orkestra-intake --receiver-addr :9292 --receiver-tls-cert /etc/orkestra/receivers/tls.crt --receiver-tls-key /etc/orkestra/receivers/tls.key`,
		AddFlags: func(fs *pflag.FlagSet) {
			fs.IntVar(&o.workers, "workers", 4, "groups that are looked at side by side")
			fs.StringVar(&o.webhookAddr, "webhook-addr", "", "address of the admission webhook (https); empty switches it off")
			fs.StringVar(&o.receiverAddr, "receiver-addr", "", "address of the webhooks of Receivers; empty switches them off")
			fs.StringVar(&o.receiverTLS.cert, "receiver-tls-cert", "", "file with the certificate of --receiver-addr (PEM), read again when it changes; empty is plain HTTP")
			fs.StringVar(&o.receiverTLS.key, "receiver-tls-key", "", "file with the key of --receiver-tls-cert (PEM)")
			fs.StringVar(&o.webhookCertDir, "webhook-cert-dir", "", "directory with tls.crt and tls.key of the admission webhook")
		},
		Validate: o.validate,
		Cache:    cacheOptions,
		Schemes:  []func(*runtime.Scheme) error{v1alpha1.AddToScheme, helmv2.AddToScheme},
		Uncached: []client.Object{&corev1.Secret{}, &helmv2.HelmRelease{}},
		Webhook:  o.webhook,
		Setup:    o.setup,
	}
}

func (o *options) validate() error {
	var errs []error
	if o.workers < 1 {
		errs = append(errs, fmt.Errorf("--workers %d: want at least 1", o.workers))
	}
	if o.webhookAddr != "" {
		if _, err := net.ResolveTCPAddr("tcp", o.webhookAddr); err != nil {
			errs = append(errs, fmt.Errorf("--webhook-addr %q: want host:port or :port", o.webhookAddr))
		}
		for _, f := range []string{"tls.crt", "tls.key"} {
			if _, err := os.Stat(filepath.Join(o.webhookCertDir, f)); err != nil {
				errs = append(errs, fmt.Errorf("--webhook-cert-dir: %w", err))
			}
		}
	}
	if o.receiverAddr != "" {
		if _, err := net.ResolveTCPAddr("tcp", o.receiverAddr); err != nil {
			errs = append(errs, fmt.Errorf("--receiver-addr %q: want host:port or :port", o.receiverAddr))
		}
	}
	errs = append(errs, o.receiverTLS.validate(o.receiverAddr))
	return errors.Join(errs...)
}

func (o *options) webhook() webhook.Server {
	if o.webhookAddr == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(o.webhookAddr)
	if err != nil {
		return nil // validate has refused it
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil
	}
	return webhook.NewServer(webhook.Options{Host: host, Port: n, CertDir: o.webhookCertDir})
}

func (o *options) setup(ctx context.Context, e *service.Env) error {
	r := &reconciler{
		client:    e.Manager.GetClient(),
		live:      e.Manager.GetAPIReader(),
		cached:    e.Manager.GetCache(),
		namespace: e.Namespace,
		say:       e.Say,
		admission: o.webhookAddr != "",
		log:       e.Log,
		now:       time.Now,
	}
	if err := e.Manager.GetFieldIndexer().IndexField(ctx, &v1alpha1.ApplicationGroup{}, indexReferences, referred); err != nil {
		return fmt.Errorf("indexing what groups refer to: %w", err)
	}
	woken := make(chan event.GenericEvent, 256)
	err := ctrl.NewControllerManagedBy(e.Manager).
		Named("intake").
		For(&v1alpha1.ApplicationGroup{}, builder.WithPredicates(asksForMore())).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.groupsThatReferTo("Secret")), builder.WithPredicates(versionChanged())).
		WatchesMetadata(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(r.groupsThatReferTo("ConfigMap")), builder.WithPredicates(versionChanged())).
		WatchesRawSource(source.Channel(woken, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: o.workers}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("adding the controller: %w", err)
	}
	if o.webhookAddr != "" {
		err := ctrl.NewWebhookManagedBy(e.Manager, &v1alpha1.ApplicationGroup{}).WithValidator(validator{}).Complete()
		if err != nil {
			return fmt.Errorf("adding the admission webhook: %w", err)
		}
		e.Manager.GetWebhookServer().Register(stampPath, &webhook.Admission{Handler: stamp{}})
	}
	hooks, err := o.receivers(ctx, e, r)
	if err != nil {
		return err
	}
	// What happens to a group that is being deleted may have been the last thing
	// that its finalizer waited for.
	return e.Consume("intake", max(o.workers, listening), func(ctx context.Context, f events.Fact) ([]events.Fact, error) {
		switch p := f.Data.(type) {
		case events.WebhookReceived:
			return nil, hooks.handle(ctx, f, p)
		case events.RolloutSucceeded, events.RolloutFailed, events.ReleaseDeleted:
			group := &v1alpha1.ApplicationGroup{}
			group.Name = f.Rollout.Group
			select {
			case woken <- event.GenericEvent{Object: group}:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return nil, nil
	})
}

// receivers adds what hears webhooks, and gives what does them: deliveries that were
// taken in are done also by a replica that takes none in.
func (o *options) receivers(ctx context.Context, e *service.Env, r *reconciler) (*webhooks, error) {
	recorder := e.Manager.GetEventRecorder(fieldManager)
	hooks := &webhooks{
		client: e.Manager.GetClient(), live: e.Manager.GetAPIReader(), namespace: e.Namespace, log: e.Log, now: time.Now,
		asked: r.asked,
		tell: func(receiver, group runtime.Object, kind, reason, message string) {
			recorder.Eventf(receiver, group, kind, reason, "Deliver", "%s", message)
		},
	}
	if err := e.Manager.GetFieldIndexer().IndexField(ctx, &v1alpha1.ApplicationGroup{}, indexCharts, chartsOf); err != nil {
		return nil, fmt.Errorf("indexing the charts of groups: %w", err)
	}
	if err := e.Manager.Add(manager.RunnableFunc(hooks.sweep)); err != nil {
		return nil, fmt.Errorf("adding the sweep: %w", err)
	}
	if o.receiverAddr == "" {
		return hooks, nil
	}
	known := &receivers{client: e.Manager.GetClient(), listeners: newListeners(), log: e.Log}
	if err := known.setup(ctx, e.Manager); err != nil {
		return nil, fmt.Errorf("adding the receivers: %w", err)
	}
	ep := &endpoint{
		client: e.Manager.GetClient(), listeners: known.listeners, namespace: e.Namespace, say: e.Say,
		log: e.Log, now: time.Now, inHand: semaphore.NewWeighted(maxInHand), bodyTime: readTime,
	}
	if err := ep.newMetrics(e.Registerer); err != nil {
		return nil, fmt.Errorf("registering the metrics of webhooks: %w", err)
	}
	config, err := o.receiverTLS.config(e.Manager)
	if err != nil {
		return nil, err
	}
	if err := e.Manager.Add(ep.serve(o.receiverAddr, config, known.load)); err != nil {
		return nil, fmt.Errorf("adding the webhooks: %w", err)
	}
	return hooks, nil
}

// asksForMore lets pass what can change the intake's mind: a new spec, a request,
// a deletion, a finalizer, and of what others write in the status, of which there is a
// lot, whether a rollout is done, or a chart refused.
func asksForMore() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(u event.UpdateEvent) bool {
		before, after := u.ObjectOld, u.ObjectNew
		return before.GetUID() != after.GetUID() ||
			before.GetGeneration() != after.GetGeneration() ||
			before.GetAnnotations()[v1alpha1.AnnotationRequestedAt] != after.GetAnnotations()[v1alpha1.AnnotationRequestedAt] ||
			before.GetAnnotations()[v1alpha1.AnnotationForceDelete] != after.GetAnnotations()[v1alpha1.AnnotationForceDelete] ||
			v1alpha1.GoesAlone(before) != v1alpha1.GoesAlone(after) ||
			len(before.GetFinalizers()) != len(after.GetFinalizers()) ||
			before.GetDeletionTimestamp().IsZero() != after.GetDeletionTimestamp().IsZero() ||
			turned(before, after)
	}}
}

// turned: the group has become ready, or ceased to be, or its charts have, for one that
// has an interval, or refers to something.
func turned(before, after client.Object) bool {
	old, ok := before.(*v1alpha1.ApplicationGroup)
	group, same := after.(*v1alpha1.ApplicationGroup)
	if !ok || !same || group.Spec.Interval == nil && len(admit.References(group)) == 0 {
		return false
	}
	for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionStaged} {
		a, b := apimeta.FindStatusCondition(old.Status.Conditions, kind), apimeta.FindStatusCondition(group.Status.Conditions, kind)
		if (a == nil) != (b == nil) || a != nil && (a.Status != b.Status || a.Reason != b.Reason || a.ObservedGeneration != b.ObservedGeneration) {
			return true
		}
	}
	return old.Status.LastHandledReconcileAt != group.Status.LastHandledReconcileAt
}
