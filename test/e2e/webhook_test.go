package e2e

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/test/repository"
)

const hookToken = "a token that only the test and its Receivers know"

// hook makes a Receiver for one group, and gives its path when it is heard.
func hook(t *testing.T, name string, spec v1alpha1.ReceiverSpec) string {
	t.Helper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "orkestra", Name: name + "-token"},
		StringData: map[string]string{v1alpha1.SecretKeyToken: hookToken},
	}
	spec.SecretRef.Name = secret.Name
	r := &v1alpha1.Receiver{ObjectMeta: metav1.ObjectMeta{Namespace: "orkestra", Name: name}, Spec: spec}
	for _, o := range []client.Object{secret, r} {
		if err := env.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := client.IgnoreNotFound(env.client.Delete(context.Background(), o)); err != nil {
				t.Errorf("deleting %s: %v", o.GetName(), err)
			}
		})
	}
	eventually(t, 20*time.Second, "receiver "+name+" to be heard", func(ctx context.Context) error {
		if err := env.client.Get(ctx, client.ObjectKeyFromObject(r), r); err != nil {
			return err
		}
		c := apimeta.FindStatusCondition(r.Status.Conditions, v1alpha1.ConditionReady)
		if c == nil || c.Status != metav1.ConditionTrue || r.Status.WebhookPath == "" {
			return fmt.Errorf("%+v", r.Status)
		}
		for replica := range replicas { // each has an informer of its own
			resp, err := http.Get(hookURL(replica) + r.Status.WebhookPath)
			if err != nil {
				return err
			}
			if err := resp.Body.Close(); err != nil {
				return err
			}
			if resp.StatusCode != http.StatusMethodNotAllowed {
				return fmt.Errorf("replica %d says %s", replica, resp.Status)
			}
		}
		return nil
	})
	return r.Status.WebhookPath
}

// hookURL of a replica of intake, counted from 0.
func hookURL(replica int) string {
	if replica == 0 {
		return env.vars["ORKESTRA_INTAKE_RECEIVER_URL"]
	}
	return env.vars[fmt.Sprintf("ORKESTRA_INTAKE_%d_RECEIVER_URL", replica+1)]
}

// posted is the answer to a delivery.
type posted struct {
	status int
	again  string
	id     string
}

func post(ctx context.Context, replica int, path string, header http.Header, body []byte) (p posted, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, hookURL(replica)+path, bytes.NewReader(body))
	if err != nil {
		return p, err
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return p, err
	}
	answer := map[string]string{}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	_, drained := io.Copy(io.Discard, resp.Body)
	return posted{status: resp.StatusCode, again: resp.Header.Get("Retry-After"), id: answer["id"]}, errors.Join(err, drained, resp.Body.Close())
}

// accepted posts what must be taken in.
func accepted(t *testing.T, replica int, path string, header http.Header, body []byte) string {
	t.Helper()
	p, err := post(t.Context(), replica, path, header, body)
	if err != nil || p.status != http.StatusAccepted || p.id == "" {
		t.Fatalf("want 202 with an id, got %+v %v", p, err)
	}
	return p.id
}

func signature(body []byte) string {
	mac := hmac.New(sha256.New, []byte(hookToken))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

func payloadFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(env.root, "services", "intake", "receive", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fromGitHub is GitHub's example of a package, of our chart.
func fromGitHub(t *testing.T, repository, delivery, version string) (http.Header, []byte) {
	t.Helper()
	repository = strings.TrimPrefix(repository, "http://")
	body := payloadFile(t, "github-package.json")
	body = bytes.ReplaceAll(body, []byte("ghcr.io/Codertocat/hello-world:"), []byte(repository+"/web:"+version))
	body = bytes.ReplaceAll(body, []byte(`"tag": {"name": ""`), []byte(`"tag": {"name": "`+version+`"`))
	return http.Header{
		"Content-Type": {"application/json"}, "X-Github-Event": {"package"},
		"X-Github-Delivery": {delivery}, "X-Hub-Signature-256": {signature(body)},
	}, body
}

// fromHarbor is Harbor's example of a push, of our chart.
func fromHarbor(t *testing.T, repository, version string) (http.Header, []byte) {
	t.Helper()
	repository = strings.TrimPrefix(repository, "http://")
	body := payloadFile(t, "harbor-push.json")
	body = bytes.ReplaceAll(body, []byte("hub.harbor.com/test-webhook/debian:latest"), []byte(repository+"/web:"+version))
	body = bytes.ReplaceAll(body, []byte("latest"), []byte(version))
	return http.Header{"Content-Type": {"application/json"}, "Authorization": {hookToken}}, body
}

// ranged is a group of one application that takes any 1.x of a chart.
func ranged(t *testing.T, name, url string) *v1alpha1.ApplicationGroup {
	t.Helper()
	return parse(t, fmt.Sprintf(`
apiVersion: orkestra.azure.microsoft.com/v1alpha1
kind: ApplicationGroup
metadata: {name: %s}
spec:
  applications:
  - name: web
    spec:
      chart: {url: %q, name: web, version: 1.x}
      release: {targetNamespace: %s, values: {message: first}}
`, name, url, name))
}

func selects(kind v1alpha1.ReceiverType, group string) v1alpha1.ReceiverSpec {
	return v1alpha1.ReceiverSpec{
		Type: kind, Groups: v1alpha1.ReceiverGroups{Names: []string{group}},
		RateLimit: &v1alpha1.ReceiverRateLimit{Requests: 10000, Period: metav1.Duration{Duration: time.Second}},
	}
}

// awaitVersion waits until the group is ready with that version of its chart.
func awaitVersion(t *testing.T, name, version string) {
	t.Helper()
	eventually(t, time.Minute, "group "+name+" to have version "+version, func(ctx context.Context) error {
		g, err := get(ctx, name)
		if err != nil {
			return err
		}
		c := apimeta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionReady)
		if len(g.Status.Applications) != 1 || g.Status.Applications[0].Version != version || c == nil || c.Status != metav1.ConditionTrue ||
			g.Status.LastHandledReconcileAt != g.Annotations[v1alpha1.AnnotationRequestedAt] {
			return fmt.Errorf("%+v %s", g.Status.Applications, conditions(g))
		}
		return nil
	})
}

// handledWebhooks is how many deliveries all replicas have done, as their metrics say.
func handledWebhooks(ctx context.Context) (n int, err error) {
	for _, name := range []string{"ORKESTRA_INTAKE_METRICS_URL", "ORKESTRA_INTAKE_2_METRICS_URL"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, env.vars[name], nil)
		if err != nil {
			return 0, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(body)) {
			if strings.HasPrefix(line, "orkestra_events_handled_total{") && strings.Contains(line, string(events.TypeWebhookReceived)) && strings.Contains(line, `outcome="done"`) {
				fields := strings.Fields(line)
				one, err := strconv.Atoi(fields[len(fields)-1])
				if err != nil {
					return 0, err
				}
				n += one
			}
		}
	}
	return n, nil
}

// countRollouts counts what was desired of a group, and the workflows that came of it.
func countRollouts(t *testing.T, name string) (desired, workflows int) {
	t.Helper()
	for _, f := range facts(t, name) {
		switch f.Data.(type) {
		case events.GroupDesired:
			desired++
		case events.WorkflowSubmitted:
			workflows++
		}
	}
	return desired, workflows
}

// outdated is a group that GitHub speaks of, with a newer version of its chart there
// that nobody has spoken of.
func outdated(t *testing.T, name string) (s *repository.Server, path string) {
	t.Helper()
	s = serve(t)
	add(t, s, "web", "1.0.0", configMapChart())
	create(t, ranged(t, name, s.URL))
	path = hook(t, name, selects(v1alpha1.ReceiverGitHub, name))
	awaitVersion(t, name, "1.0.0")
	add(t, s, "web", "1.1.0", configMapChart())
	return s, path
}

func TestPushesOfGitHubAndHarborDeploy(t *testing.T) {
	s := serve(t)
	add(t, s, "web", "1.0.0", configMapChart())
	const name = "hooked"
	create(t, ranged(t, name, s.URL))
	github, harbor := hook(t, name+"-github", selects(v1alpha1.ReceiverGitHub, name)), hook(t, name+"-harbor", selects(v1alpha1.ReceiverHarbor, name))
	awaitVersion(t, name, "1.0.0")

	add(t, s, "web", "1.1.0", configMapChart())
	h, body := fromGitHub(t, s.URL, "72d3162e-cc78-11e3-81ab-4c9367dc0958", "1.1.0")
	id := accepted(t, 0, github, h, body)
	awaitVersion(t, name, "1.1.0")

	add(t, s, "web", "1.2.0", configMapChart())
	h, body = fromHarbor(t, s.URL, "1.2.0")
	other := accepted(t, 1, harbor, h, body)
	awaitVersion(t, name, "1.2.0")

	var led []string
	for _, f := range facts(t, name) {
		if d, ok := f.Data.(events.GroupDesired); ok && d.Origin.Event != "" {
			led = append(led, d.Origin.Event)
		}
	}
	if len(led) != 2 || led[0] != id || led[1] != other {
		t.Errorf("each rollout names the delivery that led to it: got %q, want %q and %q", led, id, other)
	}
	h.Set("Authorization", "a token that somebody has guessed")
	for path, want := range map[string]int{harbor: http.StatusUnauthorized, "/hook/" + strings.Repeat("0", 64): http.StatusNotFound} {
		if p, err := post(t.Context(), 0, path, h, body); err != nil || p.status != want {
			t.Errorf("got %+v %v, want %d", p, err, want)
		}
	}
}

func TestADeliveryTenTimesIsOneRollout(t *testing.T) {
	const name = "hooked-ten"
	s, path := outdated(t, name)
	h, body := fromGitHub(t, s.URL, "ten-times", "1.1.0")
	var wg sync.WaitGroup
	answers := make([]posted, 10)
	for i := range answers {
		wg.Go(func() {
			p, err := post(t.Context(), i%replicas, path, h, body)
			if err != nil {
				t.Error(err)
			}
			answers[i] = p
		})
	}
	wg.Wait()
	for _, p := range answers {
		if p.status != http.StatusAccepted || p.id != answers[0].id {
			t.Errorf("each is taken in, as the same: got %+v and %+v", p, answers[0])
		}
	}
	awaitVersion(t, name, "1.1.0")
	if desired, workflows := countRollouts(t, name); desired != 2 || workflows != 2 {
		t.Errorf("one rollout and workflow more: got %d and %d", desired, workflows)
	}
}

func TestAHundredPushesAreOneWorkflow(t *testing.T) {
	const name = "hooked-hundred"
	s, path := outdated(t, name)
	before, err := handledWebhooks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			h, body := fromGitHub(t, s.URL, fmt.Sprint("push-", i), "1.1.0")
			if p, err := post(t.Context(), i%replicas, path, h, body); err != nil || p.status != http.StatusAccepted {
				t.Errorf("got %+v %v", p, err)
			}
		})
	}
	wg.Wait()
	awaitVersion(t, name, "1.1.0")
	eventually(t, time.Minute, "a hundred deliveries to be done", func(ctx context.Context) error {
		n, err := handledWebhooks(ctx)
		if err == nil && n-before < 100 {
			err = fmt.Errorf("%d so far", n-before)
		}
		return err
	})
	awaitVersion(t, name, "1.1.0")
	if desired, workflows := countRollouts(t, name); workflows != 2 || desired > 4 {
		t.Errorf("one workflow more, and few rollouts: got %d workflows and %d rollouts", workflows, desired)
	}
}

func TestDeployRequests(t *testing.T) {
	s := serve(t)
	for _, version := range []string{"1.0.0", "2.0.0"} {
		add(t, s, "web", version, configMapChart())
	}
	const name = "hooked-deploy"
	create(t, ranged(t, name, s.URL))
	spec := selects(v1alpha1.ReceiverGenericHMAC, name)
	spec.Deploy = &v1alpha1.ReceiverDeploy{Fields: []v1alpha1.ReceiverField{v1alpha1.ReceiverFieldVersion, v1alpha1.ReceiverFieldValues}}
	path := hook(t, name, spec)
	awaitVersion(t, name, "1.0.0")
	ask := func(body string) {
		t.Helper()
		accepted(t, 1, path, http.Header{"X-Signature-256": {signature([]byte(body))}}, []byte(body))
	}
	ask(`{"id":"run-1","group":"` + name + `","application":"web","version":"2.0.0"}`)
	awaitVersion(t, name, "2.0.0")
	ask(`{"id":"run-2","group":"` + name + `","application":"web","values":{"message":"a canary","unset":null}}`)
	eventually(t, time.Minute, "the values to be rolled out", func(ctx context.Context) error {
		g, err := get(ctx, name)
		if err != nil {
			return err
		}
		if got := string(g.Spec.Applications[0].Spec.Release.Values.Raw); got != `{"message":"a canary","unset":null}` {
			return fmt.Errorf("the values are %s", got)
		}
		var kept corev1.SecretList
		if err := env.client.List(ctx, &kept, client.InNamespace("orkestra"), client.HasLabels{v1alpha1.LabelDelivery}); err != nil {
			return err
		}
		if len(kept.Items) > 0 {
			return fmt.Errorf("%d Secrets of deliveries are left", len(kept.Items))
		}
		return nil
	})
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	var said bytes.Buffer
	err := env.bus.Follow(t.Context(), events.FollowOptions{}, func(_ events.Fact, raw []byte) error {
		_, err := said.Write(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(said.String(), "a canary") {
		t.Error("the values of a deploy request are in an event")
	}
}

func TestADeliveryWhileNATSIsAwayLandsLater(t *testing.T) {
	const name = "hooked-away"
	s, path := outdated(t, name)
	h, body := fromGitHub(t, s.URL, "away", "1.1.0")
	killBus(t, func() error {
		p, err := post(t.Context(), 0, path, h, body)
		if err == nil && (p.status != http.StatusServiceUnavailable || p.again == "") {
			err = fmt.Errorf("want 503 with Retry-After, got %+v", p)
		}
		return err
	})
	eventually(t, time.Minute, "the delivery to be taken in", func(ctx context.Context) error {
		p, err := post(ctx, 0, path, h, body)
		if err == nil && p.status != http.StatusAccepted {
			err = fmt.Errorf("got %+v", p)
		}
		return err
	})
	awaitVersion(t, name, "1.1.0")
}

// The whole chain in one trace: from GitHub's delivery to the release that it led to.
func TestADeliveryIsTracedToItsRelease(t *testing.T) {
	const name = "hooked-traced"
	s, path := outdated(t, name)
	h, body := fromGitHub(t, s.URL, "traced", "1.1.0")
	id := accepted(t, 0, path, h, body)
	awaitVersion(t, name, "1.1.0")
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	// The end of a rollout is said when its conditions are written already.
	eventually(t, 20*time.Second, "the end of the rollout to be said", func(context.Context) error {
		if code, out, errs := orkestra(t, "trace", id); code != 0 || !strings.Contains(out, "rollout.succeeded") {
			return fmt.Errorf("exit code %d: %s%s", code, out, errs)
		}
		return nil
	})
	out := answers(t, 0, []string{
		"orkestra/" + name + ": github", // the Receiver
		name + " generation 1",          // the group
		"group.desired", "charts.staged", "workflow.submitted", "node.started", "release.ready", "rollout.succeeded",
		name + "-forward-", // the workflow
	}, "trace", id)
	t.Log(out)
	answers(t, 0, []string{"BY", "WHY", "a new spec", "orkestra/" + name + ": github package, web 1.1.0"}, "history", name)
}
