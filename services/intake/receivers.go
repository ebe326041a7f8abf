package intake

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/intake/receive"
)

// indexTokens finds the Receivers whose token is in a Secret, by its name.
const indexTokens = "token"

// listener is a Receiver as deliveries to it are heard.
type listener struct {
	receiver *v1alpha1.Receiver
	token    []byte
	limit    *rate.Limiter
	// inHand bounds what is read and stored at a time, in bytes.
	inHand *semaphore.Weighted
}

// listeners by the digest of their path, so that looking one up tells nothing about it.
type listeners struct {
	mu     sync.RWMutex
	byPath map[[sha256.Size]byte]*listener
	paths  map[types.NamespacedName]string
}

func newListeners() *listeners {
	return &listeners{byPath: map[[sha256.Size]byte]*listener{}, paths: map[types.NamespacedName]string{}}
}

// at is the listener of a path, nil where there is none.
func (l *listeners) at(path string) *listener {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.byPath[sha256.Sum256([]byte(path))]
}

// put a listener at a path, and nowhere else; nil is none. What it has taken in already
// still counts against its limits.
func (l *listeners) put(key types.NamespacedName, path string, next *listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := sha256.Sum256([]byte(l.paths[key]))
	if old := l.byPath[before]; old != nil && next != nil && old.receiver.UID == next.receiver.UID {
		next.inHand = old.inHand
		if old.limit.Limit() == next.limit.Limit() && old.limit.Burst() == next.limit.Burst() {
			next.limit = old.limit
		}
	}
	delete(l.byPath, before)
	delete(l.paths, key)
	if next != nil {
		l.paths[key] = path
		l.byPath[sha256.Sum256([]byte(path))] = next
	}
}

// receivers keeps the listeners, and says in the status of Receivers how they stand.
type receivers struct {
	client    client.Client
	listeners *listeners
	log       *slog.Logger
}

// tokenOf is the index of Receivers by the name of their Secret.
func tokenOf(o client.Object) []string {
	if r, ok := o.(*v1alpha1.Receiver); ok {
		return []string{r.Spec.SecretRef.Name}
	}
	return nil
}

func (r *receivers) setup(ctx context.Context, m ctrl.Manager) error {
	if err := m.GetFieldIndexer().IndexField(ctx, &v1alpha1.Receiver{}, indexTokens, tokenOf); err != nil {
		return fmt.Errorf("indexing the Secrets of receivers: %w", err)
	}
	return ctrl.NewControllerManagedBy(m).
		Named("receivers").
		For(&v1alpha1.Receiver{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.receiversOf), builder.WithPredicates(versionChanged())).
		Complete(r)
}

// receiversOf are those whose token is in a Secret.
func (r *receivers) receiversOf(ctx context.Context, o client.Object) []reconcile.Request {
	var list v1alpha1.ReceiverList
	if err := r.client.List(ctx, &list, client.InNamespace(o.GetNamespace()), client.MatchingFields{indexTokens: o.GetName()}); err != nil {
		r.log.ErrorContext(ctx, "listing the receivers of a Secret", "namespace", o.GetNamespace(), "name", o.GetName(), "error", err)
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}

// load puts all listeners in place, so that none of them is unknown to a server that has
// just come up.
func (r *receivers) load(ctx context.Context) error {
	var list v1alpha1.ReceiverList
	if err := r.client.List(ctx, &list); err != nil {
		return fmt.Errorf("listing the receivers: %w", err)
	}
	var errs []error
	for i := range list.Items {
		_, err := r.listen(ctx, &list.Items[i])
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Reconcile looks at one Receiver.
func (r *receivers) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	receiver := &v1alpha1.Receiver{}
	err := r.client.Get(ctx, req.NamespacedName, receiver)
	if apierrors.IsNotFound(err) || err == nil && receiver.DeletionTimestamp != nil {
		r.listeners.put(req.NamespacedName, "", nil)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	ready, err := r.listen(ctx, receiver)
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.report(ctx, receiver, ready)
}

// listen to a Receiver, as far as it can be listened to, and say how that is.
func (r *receivers) listen(ctx context.Context, receiver *v1alpha1.Receiver) (metav1.Condition, error) {
	key := client.ObjectKeyFromObject(receiver)
	deaf := func(reason, message string) (metav1.Condition, error) {
		r.listeners.put(key, "", nil)
		return metav1.Condition{Status: metav1.ConditionFalse, Reason: reason, Message: message}, nil
	}
	if errs := receiver.Validate(); len(errs) > 0 {
		return deaf(v1alpha1.ReasonInvalidSpec, errs.ToAggregate().Error())
	}
	secret := &corev1.Secret{}
	err := r.client.Get(ctx, client.ObjectKey{Namespace: receiver.Namespace, Name: receiver.Spec.SecretRef.Name}, secret)
	if apierrors.IsNotFound(err) {
		return deaf(v1alpha1.ReasonTokenMissing, fmt.Sprintf("there is no Secret %s in namespace %s", receiver.Spec.SecretRef.Name, receiver.Namespace))
	}
	if err != nil {
		return metav1.Condition{}, fmt.Errorf("reading the token of receiver %s: %w", key, err)
	}
	token := secret.Data[v1alpha1.SecretKeyToken]
	if len(token) < receive.MinToken {
		return deaf(v1alpha1.ReasonTokenMissing, fmt.Sprintf("Secret %s must have a token of at least %d bytes under the key %s",
			secret.Name, receive.MinToken, v1alpha1.SecretKeyToken))
	}
	requests, period := receiver.Limit()
	r.listeners.put(key, receive.Path(token, receiver.Name, receiver.Namespace), &listener{
		receiver: receiver, token: token, limit: rate.NewLimiter(rate.Limit(float64(requests)/period.Seconds()), requests),
		inHand: semaphore.NewWeighted(maxOfOne),
	})
	message := "deliveries are heard"
	if receiver.Spec.Suspend {
		message = "deliveries are refused by spec.suspend"
	}
	return metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonListening, Message: message}, nil
}

// report writes the status, where it is not so already.
func (r *receivers) report(ctx context.Context, receiver *v1alpha1.Receiver, ready metav1.Condition) error {
	before := receiver.DeepCopy()
	ready.Type, ready.ObservedGeneration = v1alpha1.ConditionReady, receiver.Generation
	apimeta.SetStatusCondition(&receiver.Status.Conditions, ready)
	receiver.Status.ObservedGeneration = receiver.Generation
	receiver.Status.WebhookPath = r.listeners.pathOf(client.ObjectKeyFromObject(receiver))
	if apiequality.Semantic.DeepEqual(before.Status, receiver.Status) {
		return nil
	}
	err := r.client.Status().Patch(ctx, receiver, client.MergeFrom(before), client.FieldOwner(fieldManager))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("writing the status of receiver %s/%s: %w", receiver.Namespace, receiver.Name, err)
	}
	return nil
}

func (l *listeners) pathOf(key types.NamespacedName) string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.paths[key]
}
