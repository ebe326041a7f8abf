package receive

import (
	"bytes"
	"context"
	"io"
	"strings"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/package-url/packageurl-go"

	"orkestra.dev/pkg/events"
)

// TypeDeployRequested is the type of a CloudEvent whose data is a deploy request.
const TypeDeployRequested = "dev.orkestra.deploy.requested.v1"

// Types of CDEvents without their version.
const (
	typePublished = "dev.cdevents.artifact.published."
	typePackaged  = "dev.cdevents.artifact.packaged."
)

// cloudEvents reads deploy requests, and what cdEvents does.
func cloudEvents(r request) (Delivery, error) { return r.readEvents(true) }

// cdEvents reads artifacts that were packaged or published. https://cdevents.dev
func cdEvents(r request) (Delivery, error) { return r.readEvents(false) }

func (r request) readEvents(deploys bool) (Delivery, error) {
	list, err := r.cloudEvents()
	if err != nil {
		return Delivery{}, err
	}
	d := Delivery{Ignored: "this event asks for nothing"}
	if len(list) == 1 {
		d.ID, d.Event = idOf(list[0]), list[0].Type()
	}
	for i, e := range list {
		if !r.hears(e.Type()) {
			continue
		}
		switch t := e.Type(); {
		case deploys && t == TypeDeployRequested:
			err = r.deployEvent(e, &d)
		case strings.HasPrefix(t, typePublished), strings.HasPrefix(t, typePackaged):
			err = artifact(e, &d)
		default:
			continue
		}
		if err != nil {
			return d, malformed("event %d: %v", i+1, err)
		}
		d.Event, d.Ignored = e.Type(), ""
	}
	return d, nil
}

// cloudEvents of the request, by the SDK's own binding.
func (r request) cloudEvents() ([]event.Event, error) {
	message := cehttp.NewMessage(r.header, io.NopCloser(bytes.NewReader(r.body)))
	var list []event.Event
	var err error
	switch message.ReadEncoding() {
	case binding.EncodingBatch:
		list, err = binding.ToEvents(context.Background(), message, bytes.NewReader(r.body))
	case binding.EncodingStructured, binding.EncodingBinary:
		var one *event.Event
		if one, err = binding.ToEvent(context.Background(), message); err == nil {
			list = append(list, *one)
		}
	default:
		return nil, malformed("this is no CloudEvent: send the header Content-Type application/cloudevents+json, or the Ce- headers")
	}
	if err != nil {
		return nil, malformed("the CloudEvent cannot be read")
	}
	if len(list) == 0 {
		return nil, malformed("the batch is empty")
	}
	for i := range list {
		if err := list[i].Validate(); err != nil {
			return nil, malformed("event %d is no valid CloudEvent", i+1)
		}
	}
	return list, nil
}

// idOf is what makes an event unique among all: where it is from, and its id.
func idOf(e event.Event) string { return e.Source() + " " + e.ID() }

func (r request) deployEvent(e event.Event, d *Delivery) error {
	// A signature is of the body, and in binary mode what makes a deploy request of it
	// is in the headers, and so is its id.
	if r.header.Get(headerSignature) != "" && r.header.Get("Ce-Type") != "" {
		return malformed("a deploy request in binary mode must have the token in Authorization: its headers are not signed")
	}
	var body deployBody
	if err := decode(e.Data(), &body, true); err != nil {
		return err
	}
	deploy, err := deployOf(body)
	if err != nil {
		return err
	}
	d.Deploys = append(d.Deploys, deploy)
	return nil
}

// artifact reads the subject of a CDEvent, a package URL: pkg:oci with the qualifiers
// repository_url and tag, or pkg:helm with repository_url. Others are not charts.
func artifact(e event.Event, d *Delivery) error {
	var body struct {
		Subject struct {
			ID string `json:"id"`
		} `json:"subject"`
	}
	if err := decode(e.Data(), &body, false); err != nil {
		return err
	}
	purl, err := packageurl.FromString(body.Subject.ID)
	if err != nil {
		return malformed("subject.id is no package URL")
	}
	qualifiers := purl.Qualifiers.Map()
	where := qualifiers["repository_url"]
	switch {
	case where == "":
	case purl.Type == "oci":
		registry, name, _ := splitReference(schemeless(where))
		d.tagged(registry, name, qualifiers["tag"], purl.Version)
	case purl.Type == "helm":
		name := strings.Trim(purl.Namespace+"/"+purl.Name, "/")
		d.Charts = append(d.Charts, events.ChartVersion{Registry: where, Name: name, Version: purl.Version})
	}
	return nil
}
