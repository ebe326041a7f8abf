package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// unheard is an event of a type that no service of this release knows, about a group as it is.
func unheard(t *testing.T, g *v1alpha1.ApplicationGroup, thing string) []byte {
	t.Helper()
	return []byte(mustJSON(t, map[string]any{
		"specversion": "1.0", "id": thing + ".unheard/" + string(g.UID), "source": "orkestra://e2e/tomorrow",
		"type": "dev.orkestra." + thing + ".unheard.v1", "datacontenttype": "application/json",
		"data": map[string]any{
			"rollout": map[string]any{"group": g.Name, "uid": g.UID, "generation": g.Generation},
			"quoted":  "w0rds-that-are-not-for-everybody",
		},
	}))
}

// Each service that gives up on an event says so at the group, where its owner looks: once, with what it was and where to
// read on, and without the event's own words. The letters are there to be read, and go when they are discarded.
func TestDeadLettersAreToldAtTheGroup(t *testing.T) {
	const name = "unheard"
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	create(t, chain(name, s.URL, 1))
	g := awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)

	nc := natsAs(t, events.IdentityOperator, "_INBOX")
	want := map[string]string{} // who tells of which thing
	for thing, consumers := range map[string][]string{
		"group": {"stager", "compiler"}, "node": {"executor"}, "release": {"executor", "intake"},
	} {
		must(t, nc.Publish("orkestra.v1."+thing+"."+name, unheard(t, g, thing)))
		for _, c := range consumers {
			want["orkestra-"+c+" "+thing+".unheard/"+string(g.UID)] = c
		}
	}
	must(t, nc.Flush())

	var told []corev1.Event
	eventually(t, time.Minute, "all of the dead letters to be told", func(ctx context.Context) error {
		var list corev1.EventList
		if err := env.client.List(ctx, &list, client.InNamespace("default"), client.MatchingFields{
			"involvedObject.kind": v1alpha1.Kind, "involvedObject.name": name, "reason": "DeadLetter",
		}); err != nil {
			return err
		}
		told = list.Items
		if len(told) < len(want) {
			return fmt.Errorf("%d of %d are told", len(told), len(want))
		}
		return nil
	})
	if len(told) != len(want) {
		t.Errorf("%d events tell of %d letters", len(told), len(want))
	}
	for _, e := range told {
		_, id, _ := strings.Cut(e.Message, " gave up on event ")
		id, _, _ = strings.Cut(id, " ")
		service, ok := want[e.Source.Component+" "+id]
		delete(want, e.Source.Component+" "+id)
		if !ok || e.Type != corev1.EventTypeWarning || e.InvolvedObject.UID != g.UID {
			t.Errorf("nobody should tell this: %s by %s: %s", e.Type, e.Source.Component, e.Message)
		}
		for _, word := range []string{service, "generation 1", events.ReasonUnknownType, "orkestra dlq list --group " + name} {
			if !strings.Contains(e.Message, word) {
				t.Errorf("%s does not say %q: %s", e.Source.Component, word, e.Message)
			}
		}
		if strings.Contains(e.Message, "w0rds") {
			t.Errorf("what the event says is quoted: %s", e.Message)
		}
	}
	for who := range want {
		t.Errorf("not told: %s", who)
	}

	letters := func() (consumers []string) {
		var views []struct {
			Consumer string `json:"consumer"`
			Reason   string `json:"reason"`
		}
		raw := answers(t, 0, nil, "dlq", "list", "--group", name, "-o", "json")
		must(t, json.Unmarshal([]byte(raw), &views))
		for _, v := range views {
			consumers = append(consumers, v.Consumer)
		}
		return consumers
	}
	if got := letters(); len(got) != len(told) {
		t.Errorf("the list has letters of %q, and %d were told", got, len(told))
	}
	answers(t, 0, nil, "dlq", "discard", "--all", "--group", name, "--yes")
	if got := letters(); len(got) != 0 {
		t.Errorf("letters of %q are left", got)
	}
	if g, err := get(t.Context(), name); err != nil || !ready(g) {
		t.Error(errors.Join(err, fmt.Errorf("the group itself has come to harm: %s", conditions(g))))
	}
}
