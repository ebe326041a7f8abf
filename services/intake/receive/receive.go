// Package receive is the core of the webhooks: what a delivery over HTTP asks for, and
// whether its sender may. Values in, values out.
package receive

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

const (
	// MaxBody is how many bytes a delivery may have.
	MaxBody = 1 << 20
	// MinToken is how many bytes a token has at least: the path is made of it, and for
	// some senders the path is all there is.
	MinToken = 16
	// sameFor is how long a body of our own form that has no id is the same delivery.
	sameFor = time.Minute
	// maxItems is how many charts, or deploy requests, one delivery may have.
	maxItems = 100
	// maxID is how many bytes the sender's id of a delivery may have.
	maxID = 256
)

// Delivery is what a sender asks for.
type Delivery struct {
	// ID of the delivery: the sender's, else a digest of the body under the token, so
	// that nobody can guess from it what the body holds.
	ID string
	// Event is what the sender calls it.
	Event string
	// Charts that were pushed.
	Charts []events.ChartVersion
	// Deploys that are asked for.
	Deploys []Deploy
	// Reconcile asks for all groups that the Receiver selects.
	Reconcile bool
	// Ignored says why there is nothing to do; empty where there is.
	Ignored string
}

// Deploy asks for a change of one application.
type Deploy struct {
	Group, Application string
	// Version of the chart, empty where it stays.
	Version string
	// Values of the release, a JSON object, nil where they stay.
	Values json.RawMessage
}

// Refusal is why a delivery is not taken in. It says to the sender what to mend, and
// nothing of what is expected to whoever guesses.
type Refusal struct {
	// Status of the answer.
	Status int
	// Reason for the sender, one line.
	Reason string
}

// Error is the reason.
func (r *Refusal) Error() string { return r.Reason }

func refuse(status int, format string, args ...any) error {
	return &Refusal{Status: status, Reason: fmt.Sprintf(format, args...)}
}

func malformed(format string, args ...any) error {
	return refuse(http.StatusBadRequest, format, args...)
}

// Path of the webhook of a Receiver, unguessable without the token.
func Path(token []byte, name, namespace string) string {
	sum := sha256.Sum256(slices.Concat(token, []byte("\x00"+name+"\x00"+namespace)))
	return "/hook/" + hex.EncodeToString(sum[:])
}

// Receive verifies and reads a delivery to a Receiver that came at a time. An error is a
// *Refusal.
func Receive(spec *v1alpha1.ReceiverSpec, token []byte, header http.Header, body []byte, at time.Time) (Delivery, error) {
	if len(token) < MinToken { // nothing is verified by a token that is none
		return Delivery{}, refuse(http.StatusNotFound, "there is no such webhook")
	}
	if len(body) > MaxBody {
		return Delivery{}, refuse(http.StatusRequestEntityTooLarge, "the body has more than %d bytes", MaxBody)
	}
	if coding := header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return Delivery{}, refuse(http.StatusUnsupportedMediaType, "send the body without a Content-Encoding")
	}
	sender, ok := senders[spec.Type]
	if !ok {
		return Delivery{}, refuse(http.StatusInternalServerError, "the Receiver has a type that is not known")
	}
	r := request{spec: spec, token: token, header: header, body: body, at: at}
	if err := sender.verify(r); err != nil {
		return Delivery{}, err
	}
	if spec.Suspend {
		return Delivery{}, refuse(http.StatusForbidden, "the Receiver is suspended")
	}
	d, err := sender.read(r)
	if err != nil {
		return Delivery{}, err
	}
	return r.finish(d)
}

// request is a delivery that is being read.
type request struct {
	spec   *v1alpha1.ReceiverSpec
	token  []byte
	header http.Header
	body   []byte
	at     time.Time
}

// sender is how those of a type sign, and what they say.
type sender struct {
	verify func(request) error
	read   func(request) (Delivery, error)
}

var senders = map[v1alpha1.ReceiverType]sender{
	v1alpha1.ReceiverGenericHMAC: {signed("X-Signature-256"), generic},
	v1alpha1.ReceiverGitHub:      {signed("X-Hub-Signature-256"), github},
	v1alpha1.ReceiverGitLab:      {gitlabToken, gitlab},
	v1alpha1.ReceiverDockerHub:   {pathOnly, dockerHub},
	v1alpha1.ReceiverHarbor:      {authorized, harbor},
	v1alpha1.ReceiverQuay:        {pathOnly, quay},
	v1alpha1.ReceiverOCI:         {authorized, distribution},
	v1alpha1.ReceiverChartMuseum: {signedOrAuthorized, chartMuseum},
	v1alpha1.ReceiverCloudEvents: {signedOrAuthorized, cloudEvents},
	v1alpha1.ReceiverCDEvents:    {signedOrAuthorized, cdEvents},
}

// finish holds a delivery to the limits and to what the Receiver lets in.
func (r request) finish(d Delivery) (Delivery, error) {
	d.ID = r.id(d.ID)
	if d.Ignored == "" && !r.hears(d.Event) {
		d.Ignored = "the Receiver does not listen for this event"
	}
	if d.Ignored != "" {
		return Delivery{ID: d.ID, Event: clip(d.Event), Ignored: d.Ignored}, nil
	}
	d.Event = clip(d.Event)
	if len(d.Charts) > maxItems || len(d.Deploys) > maxItems {
		return d, refuse(http.StatusRequestEntityTooLarge, "a delivery may have %d charts and %d deploy requests: send it in parts", maxItems, maxItems)
	}
	spoken := d.Charts
	var err error
	if d.Charts, err = r.charts(spoken); err != nil {
		return d, err
	}
	if err := r.permitted(d.Deploys); err != nil {
		return d, err
	}
	if len(d.Charts) == 0 && len(d.Deploys) == 0 && !d.Reconcile {
		d.Ignored = "it speaks of no chart version"
		if len(spoken) > 0 {
			d.Ignored = clip(fmt.Sprintf("spec.registries of the Receiver does not let chart %s of %s in", spoken[0].Name, Registry(spoken[0].Registry)))
		}
	}
	return d, nil
}

// id of the delivery: what the sender says, where that can be one.
func (r request) id(given string) string {
	if given != "" && len(given) <= maxID && printable(given) {
		return given
	}
	return r.digest(given)
}

// digest of the body and what else makes the delivery what it is.
func (r request) digest(more string) string {
	mac := hmac.New(sha256.New, r.token)
	mac.Write([]byte(more))
	mac.Write([]byte{0})
	mac.Write(r.body)
	return "hmac-sha256:" + hex.EncodeToString(mac.Sum(nil))
}

// hears says whether spec.events lets an event in.
func (r request) hears(event string) bool {
	return len(r.spec.Events) == 0 || slices.ContainsFunc(r.spec.Events, func(e string) bool { return strings.EqualFold(e, event) })
}

// charts as groups call them, those that the Receiver lets in, each once.
func (r request) charts(in []events.ChartVersion) ([]events.ChartVersion, error) {
	var out []events.ChartVersion
	for i, c := range in {
		c.Registry = Registry(c.Registry)
		c.Name = strings.Trim(c.Name, "/")
		if err := checkChart(c); err != nil {
			return nil, malformed("chart %d: %v", i+1, err)
		}
		c, ok := r.known(c)
		if ok && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

// known translates a chart's registry by spec.registries; ok is false where that lets
// none in. GitHub names in lower case what people write as they please.
func (r request) known(c events.ChartVersion) (out events.ChartVersion, ok bool) {
	if len(r.spec.Registries) == 0 {
		return c, true
	}
	registry, longest := strings.ToLower(c.Registry), -1
	for _, known := range r.spec.Registries {
		prefix := strings.ToLower(Registry(known.Prefix))
		if !below(registry, prefix) || len(prefix) <= longest {
			continue
		}
		longest, out = len(prefix), c
		if known.As != "" {
			out.Registry = Registry(known.As) + c.Registry[len(prefix):]
		}
	}
	if longest < 0 {
		return c, false
	}
	return out, true
}

// permitted refuses at the door where the Receiver lets none of the requests through; one
// by one they are looked at again when they are done.
func (r request) permitted(deploys []Deploy) error {
	var last error
	for _, d := range deploys {
		if last = Permitted(r.spec, d.Application, d.Version != "", d.Values != nil); last == nil {
			return nil
		}
	}
	if last != nil {
		return refuse(http.StatusForbidden, "%v", last)
	}
	return nil
}

// Permitted says why a deploy request of an application may not change its version, or
// its values; nil where it may.
func Permitted(spec *v1alpha1.ReceiverSpec, application string, version, values bool) error {
	switch d := spec.Deploy; {
	case d == nil:
		return errors.New("the Receiver takes no deploy requests: spec.deploy would allow them")
	case version && !slices.Contains(d.Fields, v1alpha1.ReceiverFieldVersion):
		return errors.New("the Receiver does not let versions be changed: spec.deploy.fields")
	case values && !slices.Contains(d.Fields, v1alpha1.ReceiverFieldValues):
		return errors.New("the Receiver does not let values be changed: spec.deploy.fields")
	case len(d.Applications) > 0 && !slices.Contains(d.Applications, application):
		return errors.New("the Receiver does not let this application be changed: spec.deploy.applications")
	}
	return nil
}

// decode reads the JSON of a body, which is one value and no more.
func decode(data []byte, into any, strict bool) error {
	if !strict {
		if err := json.Unmarshal(data, into); err != nil {
			return malformed("the body cannot be read: %v", err)
		}
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return malformed("the body cannot be read: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return malformed("the body has more than one JSON value")
	}
	return nil
}

// clip makes a name of the sender's fit for an event.
func clip(s string) string {
	if len(s) <= maxID && printable(s) {
		return s
	}
	return "unnamed"
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
