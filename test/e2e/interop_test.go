package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/test/interop"
)

// Whoever is not us reads a group's whole life: the SDKs of NATS and CloudEvents parse all
// that is said of it, our schemas validate it, and the command line of NATS reads the same.
func TestOthersReadARollout(t *testing.T) {
	if err := interop.Checkout(env.root).Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := bookinfo(t)
	g.Name = "spoken"
	create(t, g)
	awaitReady(t, g.Name, 2*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	out := javascript(t, g.Name, "rollout.succeeded")
	t.Logf("a rollout, as the JavaScript consumer reads it:\n%s", out)
	if got, want := strings.Count(out, "release.ready"), len(releases(t, g.Name)); got < want {
		t.Errorf("%d releases are read as ready, and there are %d", got, want)
	}

	remove(t, g.Name)
	out = javascript(t, g.Name, "group.deleted")
	said := facts(t, g.Name)
	if want := fmt.Sprintf("%d events, %d valid", len(said), len(said)); !strings.HasSuffix(strings.TrimSpace(out), want) {
		t.Errorf("we read %q:\n%s", want, out)
	}
	if read := commandLine(t, g.Name); len(read) != len(said) {
		t.Errorf("the command line of NATS reads %d events, we read %d", len(read), len(said))
	} else {
		for i, id := range read {
			if id != said[i].ID {
				t.Errorf("event %d: the command line of NATS reads %s, we read %s", i, id, said[i].ID)
			}
		}
	}
}

// javascript is what the JavaScript consumer says of a group until an event of a type.
func javascript(t *testing.T, group, until string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := interop.Checkout(env.root).Node(ctx, env.vars, "consume.mjs", "--schemas", filepath.Join(env.root, "pkg", "events", "schemas"),
		"--group", group, "--until", until, "--timeout", "60")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("reading %s until %s: %v\n%s", group, until, err, out)
	}
	return string(out)
}

// commandLine are the ids of a group's events, as the command line of NATS reads them.
func commandLine(t *testing.T, group string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var said bytes.Buffer
	cmd := interop.Checkout(env.root).NATS(ctx, env.vars, "subscribe", "--stream", events.StreamEvents, "--all", "--raw", "--terminate-at-end",
		"orkestra.v1.*."+events.SubjectToken(group))
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("reading %s: %v\n%s%s", group, err, out, said.Bytes())
	}
	var ids []string
	for stream := json.NewDecoder(bytes.NewReader(out)); ; {
		var e struct{ ID string }
		err := stream.Decode(&e)
		if errors.Is(err, io.EOF) {
			return ids
		}
		if err != nil {
			t.Fatalf("reading what the command line of NATS says: %v\n%s", err, out)
		}
		ids = append(ids, e.ID)
	}
}
