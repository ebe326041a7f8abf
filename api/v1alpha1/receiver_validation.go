package v1alpha1

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Reasons of the condition Ready of a Receiver.
const (
	// ReasonListening: deliveries are heard.
	ReasonListening = "Listening"
	// ReasonTokenMissing: the Secret is not there, or has no usable token.
	ReasonTokenMissing = "TokenMissing"
	// ReasonPathTaken: another Receiver has the same path.
	ReasonPathTaken = "PathTaken"
)

const (
	// DefaultReceiverRequests in DefaultReceiverPeriod are what a Receiver takes in that
	// says nothing else.
	DefaultReceiverRequests = 600
	DefaultReceiverPeriod   = time.Minute
)

// receiverTypes is the enumeration of the schema.
var receiverTypes = []ReceiverType{
	ReceiverGenericHMAC, ReceiverGitHub, ReceiverGitLab, ReceiverDockerHub, ReceiverHarbor, ReceiverQuay,
	ReceiverOCI, ReceiverChartMuseum, ReceiverCloudEvents, ReceiverCDEvents,
}

// Validate says what is wrong with a Receiver: what the schema says, for what was stored
// before there was one, and the selector, of which the schema knows little.
func (r *Receiver) Validate() field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if !slices.Contains(receiverTypes, r.Spec.Type) {
		errs = append(errs, field.NotSupported(spec.Child("type"), r.Spec.Type, receiverTypes))
	}
	if r.Spec.SecretRef.Name == "" {
		errs = append(errs, field.Required(spec.Child("secretRef", "name"), "name the Secret with the token"))
	}
	groups := spec.Child("groups")
	if len(r.Spec.Groups.Names) == 0 && r.Spec.Groups.Selector == nil {
		errs = append(errs, field.Required(groups, "name groups, or give a selector: {} selects all"))
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(r.Spec.Groups.Selector,
		metav1validation.LabelSelectorValidationOptions{}, groups.Child("selector"))...)
	if d := r.Spec.Deploy; d != nil {
		if r.Spec.Type != ReceiverGenericHMAC && r.Spec.Type != ReceiverCloudEvents {
			errs = append(errs, field.Forbidden(spec.Child("deploy"), "deploy requests come to receivers of type generic-hmac or cloudevents only"))
		}
		for i, f := range d.Fields {
			errs = append(errs, oneOf(spec.Child("deploy", "fields").Index(i), f, ReceiverFieldVersion, ReceiverFieldValues)...)
		}
	}
	if l := r.Spec.RateLimit; l != nil && (l.Requests < 1 || l.Period.Duration < 0) {
		errs = append(errs, field.Invalid(spec.Child("rateLimit"), l.Requests, "wants at least one request in a period of time"))
	}
	return errs
}

// Limit is how many deliveries a Receiver takes in, in which time.
func (r *Receiver) Limit() (requests int, period time.Duration) {
	requests, period = DefaultReceiverRequests, DefaultReceiverPeriod
	if l := r.Spec.RateLimit; l != nil {
		requests = int(l.Requests)
		if l.Period.Duration > 0 {
			period = l.Period.Duration
		}
	}
	return requests, period
}

// Selects says whether a group of that name and with those labels is among those that
// the Receiver selects; a selector that is none selects nothing.
func (g ReceiverGroups) Selects(group metav1.Object) bool {
	if slices.Contains(g.Names, group.GetName()) {
		return true
	}
	if g.Selector == nil {
		return false
	}
	selector, err := metav1.LabelSelectorAsSelector(g.Selector)
	return err == nil && selector.Matches(labels.Set(group.GetLabels()))
}
