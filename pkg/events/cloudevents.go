package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
)

const (
	headerContentType = "Content-Type"
	headerTraceParent = "traceparent"
	binaryPrefix      = "ce-"

	extTraceParent   = "traceparent"
	extPartitionKey  = "partitionkey"
	extCorrelationID = "correlationid"
	extCausationID   = "causationid"

	schemaBase = "https://orkestra.dev/schemas/"
)

// body is the data of every event beside its payload.
type body struct {
	Rollout Rollout `json:"rollout,omitzero"`
}

// encode writes a fact as a CloudEvent in structured mode, the one mode that the
// NATS binding knows.
func encode(f Fact, source string) ([]byte, error) {
	if f.Data == nil {
		return nil, errors.New("the fact has no data")
	}
	if err := f.validate(); err != nil {
		return nil, err
	}
	data, err := encodeData(f)
	if err != nil {
		return nil, err
	}
	e := event.New(event.CloudEventsVersionV1)
	e.SetID(f.contentID())
	e.SetSource(source)
	e.SetType(string(f.Type()))
	e.SetSubject(f.About())
	e.SetTime(f.Time)
	e.SetDataContentType(event.ApplicationJSON)
	e.SetDataSchema(schemaBase + string(f.Type()) + ".json")
	e.DataEncoded = data
	e.SetExtension(extPartitionKey, f.partition())
	e.SetExtension(extCorrelationID, f.story())
	if f.CausationID != "" {
		e.SetExtension(extCausationID, f.CausationID)
	}
	if f.TraceParent != "" {
		e.SetExtension(extTraceParent, f.TraceParent)
	}
	if err := e.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(e)
}

// encodeData writes the payload's fields beside the rollout: {"rollout":{…},…}.
func encodeData(f Fact) ([]byte, error) {
	head, err := json.Marshal(body{f.Rollout})
	if err != nil {
		return nil, err
	}
	fields, err := json.Marshal(f.Data)
	if err != nil {
		return nil, err
	}
	if len(fields) < 2 || fields[0] != '{' {
		return nil, fmt.Errorf("the data of %s is not a JSON object", f.Type())
	}
	if string(fields) == "{}" {
		return head, nil
	}
	if string(head) == "{}" {
		return fields, nil
	}
	return append(append(head[:len(head)-1], ','), fields[1:]...), nil
}

// decode reads a message in structured or binary mode. Where it fails, the
// error is Terminal, and the fact holds what could be read.
func decode(subject string, h nats.Header, data []byte) (Fact, error) {
	var f Fact
	e, err := decodeEvent(h, data)
	if err == nil {
		err = e.Validate()
	}
	if err != nil {
		return f, Terminal(ReasonNotACloudEvent, err)
	}
	f.ID, f.Source, f.Time = e.ID(), e.Source(), e.Time()
	f.CausationID = extension(e, extCausationID)
	if tp := extension(e, extTraceParent); spanContext(tp).IsValid() {
		f.TraceParent = tp
	}
	if m := e.DataMediaType(); m != event.ApplicationJSON && m != "" {
		return f, Terminal(ReasonBadPayload, fmt.Errorf("the data is %s, want %s", m, event.ApplicationJSON))
	}
	var b body
	bodyErr := json.Unmarshal(e.Data(), &b)
	f.Rollout = b.Rollout
	if f.Data, err = decodePayload(Type(e.Type()), e.Data()); err != nil {
		f.Data = nil
		return f, err
	}
	if bodyErr == nil {
		bodyErr = f.validate()
	}
	if bodyErr != nil {
		return f, Terminal(ReasonBadPayload, fmt.Errorf("decoding the rollout: %w", bodyErr))
	}
	if want := Subject(f); want != subject {
		return f, Terminal(ReasonSubjectMismatch, fmt.Errorf("an event for %s came on %s", want, subject))
	}
	return f, nil
}

func extension(e event.Event, name string) string {
	s, _ := e.Extensions()[name].(string)
	return s
}

func decodeEvent(h nats.Header, data []byte) (event.Event, error) {
	binary := map[string]string{}
	contentType := ""
	for name, values := range h {
		// Header names keep their case in NATS, and senders differ in it.
		name = strings.ToLower(name)
		if len(values) == 0 {
			continue
		}
		if attribute, ok := strings.CutPrefix(name, binaryPrefix); ok {
			binary[attribute] = values[0]
		}
		if name == strings.ToLower(headerContentType) {
			contentType = values[0]
		}
	}
	media, _, _ := mime.ParseMediaType(contentType)
	if strings.HasPrefix(media, "application/cloudevents") || binary["specversion"] == "" {
		// No content type at all is structured too: the binding 1.0.2 has no headers.
		if media == "application/cloudevents-batch+json" {
			return event.Event{}, errors.New("a batch is not an event")
		}
		var e event.Event
		if !json.Valid(data) {
			return e, errors.New("it is not JSON")
		}
		return e, e.UnmarshalJSON(data)
	}
	return decodeBinary(binary, contentType, data)
}

// quoted matches what a backslash protects in a quoted string (RFC 7230, 3.2.6).
var quoted = regexp.MustCompile(`\\(.)`)

// headerValue is an attribute out of its header: once unquoted, where it is quoted as
// senders of earlier versions of the binding do, and once percent-decoded.
func headerValue(raw string) (string, error) {
	if len(raw) >= 2 && strings.HasPrefix(raw, `"`) && strings.HasSuffix(raw, `"`) {
		raw = quoted.ReplaceAllString(raw[1:len(raw)-1], "$1")
	}
	value, err := url.PathUnescape(raw)
	if err != nil {
		return "", err
	}
	if !utf8.ValidString(value) {
		return "", errors.New("it is not UTF-8")
	}
	return value, nil
}

// decodeBinary reads the binary mode of the binding's draft 1.0.3: attributes in
// headers ce-<name>, percent-encoded.
func decodeBinary(attributes map[string]string, contentType string, data []byte) (event.Event, error) {
	version := attributes["specversion"]
	if version != event.CloudEventsVersionV1 {
		return event.Event{}, fmt.Errorf("CloudEvents version %q is not supported", version)
	}
	e := event.New(version)
	for name, raw := range attributes {
		value, err := headerValue(raw)
		if err != nil {
			return e, fmt.Errorf("decoding header %s%s: %w", binaryPrefix, name, err)
		}
		switch name {
		case "specversion":
		case "id":
			e.SetID(value)
		case "source":
			e.SetSource(value)
		case "type":
			e.SetType(value)
		case "subject":
			e.SetSubject(value)
		case "time":
			t, err := parseTime(value)
			if err != nil {
				return e, err
			}
			e.SetTime(t)
		case "dataschema":
			e.SetDataSchema(value)
		case "datacontenttype":
			contentType = value
		default:
			e.SetExtension(name, value)
		}
	}
	if contentType != "" {
		e.SetDataContentType(contentType)
	}
	e.DataEncoded = data
	return e, nil
}
