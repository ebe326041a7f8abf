package e2e

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"orkestra.dev/pkg/events"
)

// natsAs connects to the stack's NATS as an identity, without the package events.
func natsAs(t *testing.T, identity, inbox string) *nats.Conn {
	t.Helper()
	key, err := nats.NkeyOptionFromSeed(env.stack.NATSKey(identity))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(env.vars["NATS_URL"], key, nats.RootCAs(env.vars["NATS_CA"]), nats.CustomInboxPrefix(inbox),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // LastError has it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// The bus of the stack lets in nobody without a name, a service says nothing in
// another's place, and a reader changes nothing. Which is which in detail is tested in
// pkg/events; here is that the stack runs with it.
func TestTheBusKnowsItsOwn(t *testing.T) {
	if nc, err := nats.Connect(env.vars["NATS_URL"], nats.RootCAs(env.vars["NATS_CA"])); err == nil {
		nc.Close()
		t.Error("somebody without a name is let in")
	}
	for identity, subject := range map[string]string{
		"executor": "orkestra.v1.group.x", "watcher": "orkestra.v1.group.x", "intake": "orkestra.v1.release.x",
		events.IdentityReader: "$JS.API.STREAM.MSG.DELETE.ORKESTRA_DLQ", events.IdentityOperator: "$JS.API.STREAM.PURGE.ORKESTRA",
		"compiler": "$JS.API.STREAM.UPDATE.ORKESTRA",
	} {
		nc := natsAs(t, identity, "_INBOX")
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := nc.LastError(); err == nil || !strings.Contains(err.Error(), subject) {
			t.Errorf("%s may publish on %s: %v", identity, subject, err)
		}
	}
}
