package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/auditor/record"
)

// trail reads the auditor's records, whole or with what was wrong with them.
func trail(t *testing.T, dir string) ([]record.Record, error) {
	t.Helper()
	var all []record.Record
	v := record.Verifier{See: func(r record.Record) { all = append(all, r) }}
	err := v.Folder(os.DirFS(dir))
	return all, err
}

// auditDir is where the stack's auditor writes.
func auditDir(t *testing.T) string {
	t.Helper()
	dir := env.vars["ORKESTRA_AUDIT_DIR"]
	if dir == "" {
		t.Fatal("the stack does not say where its auditor writes")
	}
	return dir
}

// audited waits until all events of a group are recorded, in the order of the stream.
func audited(t *testing.T, name string) {
	t.Helper()
	eventually(t, 30*time.Second, "the audit to have all events of group "+name, func(context.Context) error {
		var want, got []string
		for _, f := range facts(t, name) {
			want = append(want, f.EventID())
		}
		all, err := trail(t, auditDir(t))
		if bad, ok := errors.AsType[*record.Bad](err); ok && bad.Torn {
			return bad // the auditor is writing it
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all[lastStream(all):] {
			var e struct{ ID, Subject string }
			if r.Kind == record.KindEvent && json.Unmarshal(r.Event, &e) == nil && e.Subject == name {
				got = append(got, e.ID)
			}
		}
		if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
			return fmt.Errorf("recorded are\n%s\nand said were\n%s", a, b)
		}
		return nil
	})
}

// lastStream is where the records of the stream's present life begin.
func lastStream(all []record.Record) int {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Kind == record.KindStream {
			return i
		}
	}
	return 0
}

// as another user and another program than the tests': what an API server notes of both.
func as(t *testing.T, user, program string) client.Client {
	t.Helper()
	config := rest.CopyConfig(env.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:masters"}}
	c, err := client.New(config, client.Options{Scheme: env.client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return client.WithFieldOwner(c, program)
}

// A rollout is in the audit whole and in order, with who asked for it; what is altered is
// found; and the stream alone tells how the group stood.
func TestAudit(t *testing.T) {
	const name, ann, bob = "audited", "ann@example.com", "bob@example.com"
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	add(t, s, "small", "1.1.0", configMapChart())
	before := time.Now()
	g := chain(name, s.URL, 2)
	g.Annotations = map[string]string{v1alpha1.AnnotationChangedBy: `{"generation":1,"user":"` + bob + `"}`}
	if err := as(t, ann, "kubectl-create").Create(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, name) })
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	eventually(t, 10*time.Second, "the rollout's end to be said", func(context.Context) error {
		for _, f := range facts(t, name) {
			if _, over := f.Data.(events.RolloutSucceeded); over {
				return nil
			}
		}
		return errors.New("it is not said")
	})
	between := time.Now()

	by := func(want events.Origin, generation int64) {
		t.Helper()
		for _, f := range facts(t, name) {
			if d, ok := f.Data.(events.GroupDesired); ok && f.Rollout.Generation == generation && d.Origin != want {
				t.Errorf("generation %d was asked for by %+v, want %+v", generation, d.Origin, want)
			}
		}
	}
	by(events.Origin{Manager: "kubectl-create", User: ann}, 1)
	change := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"interval":"1h"}}`))
	if err := as(t, bob, "kubectl-edit").Patch(t.Context(), &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: name}}, change); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	by(events.Origin{Manager: "kubectl-edit", User: bob}, 2)

	// Nobody puts another's name there.
	forged := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationChangedBy, `{"generation":2,"user":"`+ann+`"}`))
	if err := as(t, bob, "kubectl-annotate").Patch(t.Context(), &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: name}}, forged); err != nil {
		t.Fatal(err)
	}
	if now, err := get(t.Context(), name); err != nil || !strings.Contains(now.Annotations[v1alpha1.AnnotationChangedBy], `"user":"`+bob+`"`) {
		t.Errorf("the annotation is %s, %v", now.Annotations[v1alpha1.AnnotationChangedBy], err)
	}

	answers(t, 0, []string{"asked for by " + ann + " with kubectl-create", "release.ready", "rollout.succeeded"}, "trace", name, "--rollout", "1")
	answers(t, 0, []string{"asked for by " + bob + " with kubectl-edit"}, "trace", name)
	answers(t, 1, []string{"there was no group " + name}, "status", name, "--at", before.UTC().Format(time.RFC3339Nano))
	answers(t, 0, []string{"generation 1,", "Ready", "a0", "a1", "small 1.0.0", ann}, "status", name, "--at", between.UTC().Format(time.RFC3339Nano))
	answers(t, 0, []string{"generation 2,", "Ready", bob}, "status", name, "--at", "1ms")

	audited(t, name)
	answers(t, 0, []string{"are as they were recorded"}, "audit", "verify", auditDir(t), "--against-stream")
	altered(t, name)
}

// altered changes a byte of a copy of the trail, in a record of the group.
func altered(t *testing.T, name string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(auditDir(t))); err != nil {
		t.Fatal(err)
	}
	segments, err := record.Segments(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, segment := range segments {
		file := filepath.Join(dir, segment)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(data, []byte(`"subject":"`+name+`"`))
		if at < 0 {
			continue
		}
		data[at+len(`"subject":"`)] ^= 1
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		answers(t, 1, []string{"bad: " + segment + ", line ", "the record was altered"}, "audit", "verify", dir)
		return
	}
	t.Errorf("no segment has a record of group %s", name)
}

// The bus loses everything: the audit says that it is another stream, and goes on.
func TestAuditOfALostBus(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	g := chain("auditlost", s.URL, 2)
	create(t, g)
	awaitReady(t, g.Name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	audited(t, g.Name)
	before, err := trail(t, auditDir(t))
	if err != nil {
		t.Fatal(err)
	}
	killBus(t, func() error { return os.RemoveAll(filepath.Join(env.stack.Dir, "data", "nats")) })
	update(t, g.Name, func(g *v1alpha1.ApplicationGroup) {
		g.Spec.Applications[1].Spec.Release.Values = values(t, map[string]any{"message": "after"})
	})
	awaitReady(t, g.Name, 2*time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	audited(t, g.Name)
	after, err := trail(t, auditDir(t))
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for _, r := range after[len(before):] {
		if r.Kind == record.KindStream {
			said += r.Reason
		}
	}
	if !strings.Contains(said, "made anew") {
		t.Errorf("what the audit says of the loss: %q", said)
	}
	answers(t, 0, []string{"streams: "}, "audit", "verify", auditDir(t), "--against-stream")
}
