package events

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

const (
	typePrefix = "dev.orkestra."
	// firstVersion is left out of ids; a later one is part of them, so that a
	// fact may be said in both while consumers move over.
	firstVersion = ".v1"
)

// Thing is what the fact is about: group, charts, workflow, node, release or
// rollout, and webhook or chart, which are about no group. It is the third token of the fact's subject.
func (t Type) Thing() string {
	thing, _, _ := strings.Cut(strings.TrimPrefix(string(t), typePrefix), ".")
	return thing
}

// What is the type without what all types share: group.desired for
// dev.orkestra.group.desired.v1. It begins the fact's id.
func (t Type) What() string {
	return strings.TrimSuffix(strings.TrimPrefix(string(t), typePrefix), firstVersion)
}

// registry lists every payload once, in the order in which a rollout says them.
var registry = []struct {
	example Payload
	decode  func([]byte) (Payload, error)
}{
	entry[GroupDesired](),
	entry[GroupRejected](),
	entry[GroupSuspended](),
	entry[GroupDeleting](),
	entry[GroupDeleted](),
	entry[ChartsStaged](),
	entry[ChartsFailed](),
	entry[WorkflowSubmitted](),
	entry[WorkflowRejected](),
	entry[NodeStarted](),
	entry[NodeSucceeded](),
	entry[NodeFailed](),
	entry[ReleaseReady](),
	entry[ReleaseFailed](),
	entry[ReleaseExpired](),
	entry[ReleaseDeleted](),
	entry[RolloutUnchanged](),
	entry[RolloutSucceeded](),
	entry[RolloutFailed](),
	entry[WebhookReceived](),
	entry[ChartPushed](),
}

func entry[P Payload]() (e struct {
	example Payload
	decode  func([]byte) (Payload, error)
}) {
	var zero P
	e.example = zero
	e.decode = func(raw []byte) (Payload, error) {
		var p P
		err := json.Unmarshal(raw, &p)
		return p, err
	}
	return e
}

// decoders is the registry by type.
var decoders = func() map[Type]func([]byte) (Payload, error) {
	m := make(map[Type]func([]byte) (Payload, error), len(registry))
	for _, e := range registry {
		m[e.example.EventType()] = e.decode
	}
	return m
}()

// Types are all types that this version of the contract knows, in the order in
// which a rollout says them.
func Types() []Type {
	types := make([]Type, 0, len(registry))
	for _, e := range registry {
		types = append(types, e.example.EventType())
	}
	return types
}

// Payloads are the zero values of all payloads, in the order of Types.
func Payloads() []Payload {
	payloads := make([]Payload, 0, len(registry))
	for _, e := range registry {
		payloads = append(payloads, e.example)
	}
	return payloads
}

// decodePayload reads the data of a type. Fields that it does not know are
// skipped: whoever hears is tolerant, so that whoever says may add.
func decodePayload(t Type, raw []byte) (Payload, error) {
	decode, ok := decoders[t]
	if !ok {
		return nil, Terminal(ReasonUnknownType, fmt.Errorf("type %q is not in the contract", t))
	}
	p, err := decode(raw)
	if err != nil {
		return nil, Terminal(ReasonBadPayload, fmt.Errorf("decoding the data of %s: %w", t, err))
	}
	return p, nil
}

// key joins the parts of a payload's key.
func key(parts ...string) string {
	escaped := make([]string, len(parts))
	for i, p := range parts {
		escaped[i] = token(p)
	}
	return strings.Join(escaped, "/")
}

func (r WorkflowRef) key() string { return key(string(r.WorkflowType), r.Workflow) }
func (r NodeRef) key() string     { return key(r.Workflow, r.Node) }
func (r ReleaseRef) key() string {
	return key(r.Workflow, r.ReleaseUID, strconv.FormatInt(r.ReleaseGeneration, 10))
}

// EventType implements Payload.
func (GroupDesired) EventType() Type      { return TypeGroupDesired }
func (GroupRejected) EventType() Type     { return TypeGroupRejected }
func (GroupSuspended) EventType() Type    { return TypeGroupSuspended }
func (GroupDeleting) EventType() Type     { return TypeGroupDeleting }
func (GroupDeleted) EventType() Type      { return TypeGroupDeleted }
func (ChartsStaged) EventType() Type      { return TypeChartsStaged }
func (ChartsFailed) EventType() Type      { return TypeChartsFailed }
func (WorkflowSubmitted) EventType() Type { return TypeWorkflowSubmitted }
func (WorkflowRejected) EventType() Type  { return TypeWorkflowRejected }
func (NodeStarted) EventType() Type       { return TypeNodeStarted }
func (NodeSucceeded) EventType() Type     { return TypeNodeSucceeded }
func (NodeFailed) EventType() Type        { return TypeNodeFailed }
func (ReleaseReady) EventType() Type      { return TypeReleaseReady }
func (ReleaseFailed) EventType() Type     { return TypeReleaseFailed }
func (ReleaseExpired) EventType() Type    { return TypeReleaseExpired }
func (ReleaseDeleted) EventType() Type    { return TypeReleaseDeleted }
func (RolloutUnchanged) EventType() Type  { return TypeRolloutUnchanged }
func (RolloutSucceeded) EventType() Type  { return TypeRolloutSucceeded }
func (RolloutFailed) EventType() Type     { return TypeRolloutFailed }
func (WebhookReceived) EventType() Type   { return TypeWebhookReceived }
func (ChartPushed) EventType() Type       { return TypeChartPushed }

// Key implements Payload: a rollout desires, rejects, deletes and stages once;
// it has up to three workflows, and many nodes and releases.
func (GroupDesired) Key() string        { return "" }
func (GroupRejected) Key() string       { return "" }
func (GroupSuspended) Key() string      { return "" }
func (GroupDeleting) Key() string       { return "" }
func (GroupDeleted) Key() string        { return "" }
func (ChartsStaged) Key() string        { return "" }
func (ChartsFailed) Key() string        { return "" }
func (p WorkflowSubmitted) Key() string { return p.key() }
func (p WorkflowRejected) Key() string  { return key(string(p.WorkflowType)) }
func (p NodeStarted) Key() string       { return p.key() }
func (p NodeSucceeded) Key() string     { return p.key() }
func (p NodeFailed) Key() string        { return p.key() }
func (p ReleaseReady) Key() string      { return p.key() }
func (p ReleaseFailed) Key() string     { return p.key() }
func (p ReleaseExpired) Key() string    { return p.key() }
func (p ReleaseDeleted) Key() string    { return p.key() }
func (RolloutUnchanged) Key() string    { return "" }
func (p RolloutSucceeded) Key() string  { return p.key() }
func (p RolloutFailed) Key() string     { return p.key() }
func (p WebhookReceived) Key() string   { return key(p.ReceiverUID, p.Delivery) }
func (p ChartPushed) Key() string       { return key(p.Tenant, p.Chart, p.Version, p.Digest) }

// About implements Standalone.
func (p WebhookReceived) About() string { return p.Namespace + "/" + p.Receiver }
func (p ChartPushed) About() string     { return p.Tenant }
