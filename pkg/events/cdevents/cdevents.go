// Package cdevents says what Orkestra's services say in the vocabulary of CDEvents
// (https://cdevents.dev), for tools that measure or trace deliveries and know that
// vocabulary only. It maps values to values.
//
// A group is an environment, a HelmRelease a service in it, a workflow a pipeline run,
// a release node of it a task run, a staged chart an artifact. docs/events/cdevents.md
// has the table. Facts that CDEvents has no word for map to nothing.
package cdevents

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"orkestra.dev/pkg/events"
)

// SpecVersion is the version of CDEvents that the events follow.
const SpecVersion = "0.5.1"

const (
	typePrefix    = "dev.cdevents."
	subjectPrefix = "orkestra.cdevents."
	schemaBase    = "https://cdevents.dev/" + SpecVersion + "/schema/"
)

// Of are the CDEvents of a fact that was heard: none where CDEvents has no word for it.
// Their ids, sources and times follow from the fact's, so that the same fact twice is the
// same events twice. A fact without source or time is an error: CDEvents requires both.
func Of(f events.Fact) ([]event.Event, error) {
	said := sayings(f)
	if len(said) == 0 {
		return nil, nil
	}
	if f.Source == "" || f.Time.IsZero() {
		return nil, fmt.Errorf("mapping %s to CDEvents: it has no source or no time, as one that was heard has", f.EventID())
	}
	mapped := make([]event.Event, 0, len(said))
	for _, s := range said {
		e, err := s.event(f)
		if err != nil {
			return nil, fmt.Errorf("mapping %s to CDEvents: %w", f.EventID(), err)
		}
		mapped = append(mapped, e)
	}
	return mapped, nil
}

// Subject is the NATS subject under which an event of Of is published:
// orkestra.cdevents.<subject>.<predicate>.<what the fact is about>, e.g.
// orkestra.cdevents.service.deployed.bookinfo.
func Subject(f events.Fact, e event.Event) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(e.Type(), typePrefix), ".0.")
	return subjectPrefix + kind + "." + events.SubjectToken(f.About())
}

// saying is one CDEvent before it is written down.
type saying struct {
	what    what
	id      string // of the subject
	content any
}

// what names a CDEvents type.
type what struct{ subject, predicate, version string }

func (w what) eventType() string {
	return typePrefix + w.subject + "." + w.predicate + "." + w.version
}

// data is a CDEvent as its schema has it.
type data struct {
	Context    context `json:"context"`
	Subject    subject `json:"subject"`
	CustomData custom  `json:"customData"`
	// CustomDataContentType of CustomData.
	CustomDataContentType string `json:"customDataContentType"`
}

type context struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Timestamp   time.Time `json:"timestamp"`
}

type subject struct {
	ID      string `json:"id"`
	Source  string `json:"source"`
	Content any    `json:"content"`
}

// custom leads back to Orkestra's own event.
type custom struct {
	Event       string         `json:"event"`
	Type        events.Type    `json:"type"`
	CausationID string         `json:"causationid,omitempty"`
	Rollout     events.Rollout `json:"rollout,omitzero"`
}

func (s saying) event(f events.Fact) (event.Event, error) {
	cluster, err := clusterOf(f.Source)
	if err != nil {
		return event.Event{}, err
	}
	d := data{
		Context: context{
			SpecVersion: SpecVersion,
			ID:          f.EventID() + "/" + s.what.subject + "." + s.what.predicate,
			Source:      f.Source,
			Type:        s.what.eventType(),
			Timestamp:   f.Time.UTC(),
		},
		Subject: subject{ID: s.id, Source: cluster, Content: s.content},
		CustomData: custom{
			Event: f.EventID(), Type: f.Type(), CausationID: f.CausationID, Rollout: f.Rollout,
		},
		CustomDataContentType: event.ApplicationJSON,
	}
	e := event.New(event.CloudEventsVersionV1)
	e.SetID(d.Context.ID)
	e.SetSource(d.Context.Source)
	e.SetType(d.Context.Type)
	e.SetSubject(d.Subject.ID)
	e.SetTime(d.Context.Timestamp)
	e.SetDataSchema(schemaBase + s.what.subject + "-" + s.what.predicate + "-event")
	if f.TraceParent != "" {
		e.SetExtension("traceparent", f.TraceParent)
	}
	if err := e.SetData(event.ApplicationJSON, d); err != nil {
		return e, err
	}
	return e, e.Validate()
}

// clusterOf is the source of what lives in a cluster: orkestra://<cluster> for
// orkestra://<cluster>/<service>.
func clusterOf(source string) (string, error) {
	u, err := url.Parse(source)
	if err != nil {
		return "", fmt.Errorf("the source is no URI: %w", err)
	}
	if u.Scheme == "" || u.Host == "" {
		return "", errors.New("the source " + strconv.Quote(source) + " names no cluster, want orkestra://<cluster>/<service>")
	}
	return u.Scheme + "://" + u.Host, nil
}
