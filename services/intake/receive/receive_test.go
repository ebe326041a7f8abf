package receive

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

var (
	token = []byte("a token of our own")
	when  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

func payload(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func sign(body, with []byte) string {
	mac := hmac.New(sha256.New, with)
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// headers of a delivery, as its sender sends them.
func headers(kind v1alpha1.ReceiverType, body, token []byte) http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	switch kind {
	case v1alpha1.ReceiverGitHub:
		h.Set("X-Hub-Signature-256", sign(body, token))
		h.Set("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
		h.Set("X-GitHub-Event", "package")
	case v1alpha1.ReceiverGitLab:
		h.Set("X-Gitlab-Token", string(token))
		h.Set("X-Gitlab-Event", "Push Hook")
		h.Set("X-Gitlab-Event-UUID", "13792a34-cac6-4fda-95a8-c58e00a3954e")
		h.Set("Idempotency-Key", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f")
	case v1alpha1.ReceiverHarbor:
		h.Set("Authorization", string(token))
	case v1alpha1.ReceiverOCI:
		h.Set("Content-Type", "application/vnd.docker.distribution.events.v1+json")
		h.Set("Authorization", "Bearer "+string(token))
	case v1alpha1.ReceiverGenericHMAC, v1alpha1.ReceiverChartMuseum, v1alpha1.ReceiverCloudEvents, v1alpha1.ReceiverCDEvents:
		h.Set("X-Signature-256", sign(body, token))
	case v1alpha1.ReceiverDockerHub, v1alpha1.ReceiverQuay:
	}
	return h
}

func digest(hex string) string { return "sha256:" + hex }

func deployable(kind v1alpha1.ReceiverType) *v1alpha1.ReceiverSpec {
	spec := &v1alpha1.ReceiverSpec{Type: kind}
	if kind == v1alpha1.ReceiverGenericHMAC || kind == v1alpha1.ReceiverCloudEvents {
		spec.Deploy = &v1alpha1.ReceiverDeploy{Fields: []v1alpha1.ReceiverField{v1alpha1.ReceiverFieldVersion, v1alpha1.ReceiverFieldValues}}
	}
	return spec
}

func TestPayloadsOfTheSenders(t *testing.T) {
	cd := payload(t, "cdevents-published.json")
	binary := func(h http.Header, id, kind string) {
		h.Del("X-Signature-256")
		h.Set("Authorization", "Bearer "+string(token))
		h.Set("Ce-Specversion", "1.0")
		h.Set("Ce-Id", id)
		h.Set("Ce-Source", "/ci")
		h.Set("Ce-Type", kind)
	}
	structured := func(h http.Header) { h.Set("Content-Type", "application/cloudevents+json") }
	for name, tt := range map[string]struct {
		kind v1alpha1.ReceiverType
		body []byte
		with func(http.Header)
		want Delivery
	}{
		"GitHub's package with a tag": {
			kind: v1alpha1.ReceiverGitHub,
			body: bytes.ReplaceAll(bytes.ReplaceAll(payload(t, "github-package.json"), []byte(`hello-world:"`), []byte(`hello-world:0.2.0"`)),
				[]byte(`"tag": {"name": ""`), []byte(`"tag": {"name": "0.2.0"`)),
			want: Delivery{ID: "72d3162e-cc78-11e3-81ab-4c9367dc0958", Event: "package",
				Charts: []events.ChartVersion{{Registry: "ghcr.io/codertocat", Name: "hello-world", Version: "0.2.0"}}},
		},
		"GitHub's package without one": {
			kind: v1alpha1.ReceiverGitHub, body: payload(t, "github-package.json"),
			want: Delivery{ID: "72d3162e-cc78-11e3-81ab-4c9367dc0958", Event: "package", Ignored: "it speaks of no chart version"},
		},
		"GitHub's push": {
			kind: v1alpha1.ReceiverGitHub, body: []byte(`{"ref":"refs/heads/main"}`),
			with: func(h http.Header) { h.Set("X-GitHub-Event", "push") },
			want: Delivery{ID: "72d3162e-cc78-11e3-81ab-4c9367dc0958", Event: "push", Reconcile: true},
		},
		"GitHub's ping": {
			kind: v1alpha1.ReceiverGitHub, body: []byte(`{"zen":"Design for failure."}`),
			with: func(h http.Header) { h.Set("X-GitHub-Event", "ping") },
			want: Delivery{ID: "72d3162e-cc78-11e3-81ab-4c9367dc0958", Event: "ping", Ignored: "this event says nothing of charts"},
		},
		"GitLab": {
			kind: v1alpha1.ReceiverGitLab, body: payload(t, "gitlab-push.json"),
			want: Delivery{ID: "f5e5f430-f57b-4e6e-9fac-d9128cd7232f", Event: "push", Reconcile: true},
		},
		"Docker Hub": {
			kind: v1alpha1.ReceiverDockerHub, body: bytes.Replace(payload(t, "dockerhub-push.json"), []byte("latest"), []byte("v2.0.0"), 1),
			want: Delivery{Event: "push", Charts: []events.ChartVersion{{Registry: "docker.io/svendowideit", Name: "testhook", Version: "v2.0.0"}}},
		},
		"Docker Hub's latest": {
			kind: v1alpha1.ReceiverDockerHub, body: payload(t, "dockerhub-push.json"),
			want: Delivery{Event: "push", Ignored: "it speaks of no chart version"},
		},
		"Harbor": {
			kind: v1alpha1.ReceiverHarbor, body: bytes.ReplaceAll(payload(t, "harbor-push.json"), []byte("latest"), []byte("10.1.0")),
			want: Delivery{Event: "PUSH_ARTIFACT", Charts: []events.ChartVersion{{Registry: "hub.harbor.com/test-webhook", Name: "debian", Version: "10.1.0",
				Digest: digest("8a9e9863dbb6e10edb5adfe917c00da84e1700fa76e7ed02476aa6e6fb8ee0d8")}}},
		},
		"Harbor's CloudEvents": {
			kind: v1alpha1.ReceiverHarbor, body: payload(t, "harbor-cloudevent.json"), with: structured,
			want: Delivery{ID: "/projects/1/webhook/policies/3 66a5e9d3-6e6e-4a0e-9d69-6e9a1a1a3b52", Event: "harbor.artifact.pushed",
				Charts: []events.ChartVersion{{Registry: "harbor.dev/library", Name: "busybox", Version: "1.36.0",
					Digest: digest("dde8e930c7b6a490f728e66292bc9bce42efc9bbb5278bae40e4f30f6e00fe8c")}}},
		},
		"Quay": {
			kind: v1alpha1.ReceiverQuay, body: payload(t, "quay-push.json"),
			want: Delivery{Event: "repo_push", Charts: []events.ChartVersion{{Registry: "quay.io/dgangaia", Name: "test", Version: "1.2.3"}}},
		},
		"The CNCF's registry": {
			kind: v1alpha1.ReceiverOCI, body: payload(t, "distribution-push.json"),
			want: Delivery{Event: "push", Charts: []events.ChartVersion{{Registry: "192.168.100.227:5000", Name: "hello-world", Version: "1.0.0+build.7",
				Digest: digest("fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf")}}},
		},
		"GitLab's registry": {
			kind: v1alpha1.ReceiverOCI, body: payload(t, "gitlab-registry-push.json"),
			want: Delivery{ID: "5a3c9a4e-3f0e-4d6a-9d0e-2f0a7c1f3b11", Event: "push", Charts: []events.ChartVersion{{Registry: "registry.example.com/group/test/container",
				Name: "web", Version: "1.4.0", Digest: digest("fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf")}}},
		},
		"An upload to ChartMuseum": {
			kind: v1alpha1.ReceiverChartMuseum,
			body: []byte(`{"repository":"https://charts.example.com:443/team/","name":"app","version":"1.0.0","urls":["charts/app-1.0.0.tgz"],"digest":"` + strings.Repeat("a", 64) + `"}`),
			want: Delivery{Event: "upload", Charts: []events.ChartVersion{{Registry: "charts.example.com/team", Name: "app", Version: "1.0.0", Digest: digest(strings.Repeat("a", 64))}}},
		},
		"A deploy request": {
			kind: v1alpha1.ReceiverGenericHMAC, body: []byte(`{"id":"run-7","group":"shop","application":"web","version":"1.2.3"}`),
			want: Delivery{ID: "run-7", Event: "deploy", Deploys: []Deploy{{Group: "shop", Application: "web", Version: "1.2.3"}}},
		},
		"A deploy request with values": {
			kind: v1alpha1.ReceiverGenericHMAC, body: []byte(`{"id":"run-8","group":"shop","application":"web","values":{"a":null}}`),
			want: Delivery{ID: "run-8", Event: "deploy", Deploys: []Deploy{{Group: "shop", Application: "web", Values: []byte(`{"a":null}`)}}},
		},
		"A deploy request as a CloudEvent": {
			kind: v1alpha1.ReceiverCloudEvents, with: structured,
			body: []byte(`{"specversion":"1.0","id":"1","source":"/ci","type":"dev.orkestra.deploy.requested.v1","datacontenttype":"application/json","data":{"group":"shop","application":"web","version":"2.x"}}`),
			want: Delivery{ID: "/ci 1", Event: TypeDeployRequested, Deploys: []Deploy{{Group: "shop", Application: "web", Version: "2.x"}}},
		},
		"A batch": {
			kind: v1alpha1.ReceiverCloudEvents, with: func(h http.Header) { h.Set("Content-Type", "application/cloudevents-batch+json") },
			body: []byte(`[{"specversion":"1.0","id":"1","source":"/ci","type":"dev.orkestra.deploy.requested.v1","data":{"group":"shop","application":"web","version":"2.0.0"}},
				{"specversion":"1.0","id":"2","source":"/ci","type":"another"},
				{"specversion":"1.0","id":"3","source":"/ci","type":"dev.orkestra.deploy.requested.v1","data":{"group":"shop","application":"db","version":"3.0.0"}}]`),
			want: Delivery{Event: TypeDeployRequested, Deploys: []Deploy{{Group: "shop", Application: "web", Version: "2.0.0"}, {Group: "shop", Application: "db", Version: "3.0.0"}}},
		},
		"A binary CDEvent": {
			kind: v1alpha1.ReceiverCDEvents, body: cd,
			with: func(h http.Header) { binary(h, "9", "dev.cdevents.artifact.published.0.3.0-draft") },
			want: Delivery{ID: "/ci 9", Event: "dev.cdevents.artifact.published.0.3.0-draft",
				Charts: []events.ChartVersion{{Registry: "registry.example.com/charts", Name: "app", Version: "1.4.0",
					Digest: digest("fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf")}}},
		},
		"Another CDEvent": {
			kind: v1alpha1.ReceiverCDEvents, body: cd,
			with: func(h http.Header) { binary(h, "9", "dev.orkestra.deploy.requested.v1") },
			want: Delivery{ID: "/ci 9", Event: "dev.orkestra.deploy.requested.v1", Ignored: "this event asks for nothing"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := headers(tt.kind, tt.body, token)
			if tt.with != nil {
				tt.with(h)
			}
			got, err := Receive(deployable(tt.kind), token, h, tt.body, when)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want.ID == "" {
				if !strings.HasPrefix(got.ID, "hmac-sha256:") || got.ID == "hmac-sha256:"+fmt.Sprintf("%x", sha256.Sum256(tt.body)) {
					t.Errorf("who sends no id has the digest under the token for one: got %s", got.ID)
				}
				tt.want.ID = got.ID
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func refusalOf(t *testing.T, err error) *Refusal {
	t.Helper()
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		t.Fatalf("want a refusal, got %v", err)
	}
	if strings.Contains(refusal.Reason, string(token)) || strings.ContainsAny(refusal.Reason, "\n\r") {
		t.Errorf("the reason %q tells too much", refusal.Reason)
	}
	return refusal
}

func TestNobodyElseIsHeard(t *testing.T) {
	bodies := map[v1alpha1.ReceiverType][]byte{
		v1alpha1.ReceiverGenericHMAC: []byte(`{"group":"shop","application":"web","version":"1.2.3"}`),
		v1alpha1.ReceiverGitHub:      payload(t, "github-package.json"),
		v1alpha1.ReceiverGitLab:      payload(t, "gitlab-push.json"),
		v1alpha1.ReceiverHarbor:      payload(t, "harbor-push.json"),
		v1alpha1.ReceiverOCI:         payload(t, "distribution-push.json"),
		v1alpha1.ReceiverChartMuseum: []byte(`{"repository":"https://charts.example.com","name":"app","version":"1.0.0"}`),
		v1alpha1.ReceiverCloudEvents: payload(t, "harbor-cloudevent.json"),
		v1alpha1.ReceiverCDEvents:    payload(t, "cdevents-published.json"),
	}
	for kind, body := range bodies {
		spec := deployable(kind)
		for name, h := range map[string]http.Header{
			"without a header":         {},
			"with another token":       headers(kind, body, []byte("a token of somebody's")),
			"with another body":        headers(kind, append(bytes.Clone(body), ' '), append(bytes.Clone(token), '!')),
			"with an empty token":      headers(kind, body, nil),
			"with what is no digest":   {"X-Signature-256": {"sha256=zz"}, "X-Hub-Signature-256": {"sha256="}, "Authorization": {"Bearer"}, "X-Gitlab-Token": {" "}},
			"with another algorithm":   {"X-Signature-256": {"sha1=" + strings.Repeat("0", 40)}, "X-Hub-Signature-256": {strings.Repeat("0", 64)}, "Authorization": {"Basic eA=="}, "X-Gitlab-Token": {"sha256=00"}},
			"with a signature of none": {"X-Signature-256": {"sha256="}, "X-Hub-Signature-256": {"sha256="}, "Authorization": {"Bearer "}, "X-Gitlab-Token": {""}},
		} {
			_, err := Receive(spec, token, h, body, when)
			if r := refusalOf(t, err); r.Status != http.StatusUnauthorized {
				t.Errorf("%s %s: got %d %s", kind, name, r.Status, r.Reason)
			}
		}
		if _, err := Receive(spec, nil, headers(kind, body, nil), body, when); err == nil {
			t.Errorf("%s: a Receiver without a token hears nobody", kind)
		}
	}
}

func TestRefusals(t *testing.T) {
	generic := func(body string) (*v1alpha1.ReceiverSpec, http.Header, []byte) {
		return deployable(v1alpha1.ReceiverGenericHMAC), headers(v1alpha1.ReceiverGenericHMAC, []byte(body), token), []byte(body)
	}
	for body, want := range map[string]struct {
		status int
		reason string
	}{
		`{`:                               {400, "cannot be read"},
		`{}`:                              {400, "asks for nothing"},
		`{} {}`:                           {400, "more than one JSON value"},
		`{"app":1}`:                       {400, "unknown field"},
		`{"group":"g","application":"a"}`: {400, "version or values"},
		`{"group":"g","version":"1.0.0"}`: {400, "application must name"},
		`{"group":"g","application":"a","version":"one"}`:               {400, "neither a version nor a range"},
		`{"group":"g","application":"a","values":[1]}`:                  {400, "values must be an object"},
		`{"group":"g","application":"a","values":null}`:                 {400, "values must be an object"},
		`{"charts":[{"registry":"https://","name":"a","version":"1"}]}`: {400, "registry"},
		`{"charts":[{"registry":"h","name":"a b","version":"1"}]}`:      {400, "name"},
		`{"charts":[{"registry":"h","name":"a","version":"latest"}]}`:   {400, "version"},
		`{"reconcile":true,"group":"g","application":"a"}`:              {400, "version or values|several"},
		`{"deploys":[` + strings.Repeat(`{"group":"g","application":"a","version":"1"},`, maxItems) + `{"group":"g","application":"a","version":"1"}]}`: {413, "in parts"},
	} {
		spec, h, b := generic(body)
		_, err := Receive(spec, token, h, b, when)
		r := refusalOf(t, err)
		ok := false
		for part := range strings.SplitSeq(want.reason, "|") {
			ok = ok || strings.Contains(r.Reason, part)
		}
		if r.Status != want.status || !ok {
			t.Errorf("%.60s: got %d %q, want %d %q", body, r.Status, r.Reason, want.status, want.reason)
		}
	}

	spec, h, b := generic(`{"group":"g","application":"a","version":"1.0.0"}`)
	for name, tt := range map[string]struct {
		change func(*v1alpha1.ReceiverSpec, http.Header)
		status int
	}{
		"No deploys":          {func(s *v1alpha1.ReceiverSpec, _ http.Header) { s.Deploy = nil }, 403},
		"Not this field":      {func(s *v1alpha1.ReceiverSpec, _ http.Header) { s.Deploy.Fields = s.Deploy.Fields[1:] }, 403},
		"Not the application": {func(s *v1alpha1.ReceiverSpec, _ http.Header) { s.Deploy.Applications = []string{"b"} }, 403},
		"Suspended":           {func(s *v1alpha1.ReceiverSpec, _ http.Header) { s.Suspend = true }, 403},
		"Compressed":          {func(_ *v1alpha1.ReceiverSpec, h http.Header) { h.Set("Content-Encoding", "gzip") }, 415},
	} {
		s, h := spec.DeepCopy(), h.Clone()
		tt.change(s, h)
		_, err := Receive(s, token, h, b, when)
		if r := refusalOf(t, err); r.Status != tt.status {
			t.Errorf("%s: got %d %q, want %d", name, r.Status, r.Reason, tt.status)
		}
	}

	// What makes a deploy request of a binary CloudEvent is not in what is signed.
	body := []byte(`{"group":"g","application":"a","version":"1.0.0"}`)
	h = headers(v1alpha1.ReceiverCloudEvents, body, token)
	for name, value := range map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/", "Ce-Type": TypeDeployRequested} {
		h.Set(name, value)
	}
	_, err := Receive(deployable(v1alpha1.ReceiverCloudEvents), token, h, body, when)
	if r := refusalOf(t, err); !strings.Contains(r.Reason, "not signed") {
		t.Errorf("got %q", r.Reason)
	}
}

func TestOnlyWhatTheReceiverLetsIn(t *testing.T) {
	body := bytes.ReplaceAll(payload(t, "harbor-push.json"), []byte("latest"), []byte("10.1.0"))
	for name, tt := range map[string]struct {
		spec v1alpha1.ReceiverSpec
		want []string
	}{
		"All":              {v1alpha1.ReceiverSpec{}, []string{"hub.harbor.com/test-webhook"}},
		"The event":        {v1alpha1.ReceiverSpec{Events: []string{"push_artifact"}}, []string{"hub.harbor.com/test-webhook"}},
		"Another event":    {v1alpha1.ReceiverSpec{Events: []string{"PULL_ARTIFACT"}}, nil},
		"The registry":     {v1alpha1.ReceiverSpec{Registries: []v1alpha1.ReceiverRegistry{{Prefix: "hub.harbor.com"}}}, []string{"hub.harbor.com/test-webhook"}},
		"In other letters": {v1alpha1.ReceiverSpec{Registries: []v1alpha1.ReceiverRegistry{{Prefix: "Hub.Harbor.com/Test-Webhook"}}}, []string{"hub.harbor.com/test-webhook"}},
		"Part of a name":   {v1alpha1.ReceiverSpec{Registries: []v1alpha1.ReceiverRegistry{{Prefix: "hub.harbor.com/test"}}}, nil},
		"By another name":  {v1alpha1.ReceiverSpec{Registries: []v1alpha1.ReceiverRegistry{{Prefix: "hub.harbor.com"}, {Prefix: "hub.harbor.com/test-webhook", As: "harbor.svc:8080/x"}}}, []string{"harbor.svc:8080/x"}},
	} {
		tt.spec.Type = v1alpha1.ReceiverHarbor
		d, err := Receive(&tt.spec, token, headers(v1alpha1.ReceiverHarbor, body, token), body, when)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for _, c := range d.Charts {
			got = append(got, c.Registry)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || (d.Ignored == "") != (tt.want != nil) {
			t.Errorf("%s: ignored %q (-want +got):\n%s", name, d.Ignored, diff)
		}
	}
}

func TestAWishWithoutAnIDIsARetryForAMinute(t *testing.T) {
	body := []byte(`{"reconcile":true}`)
	id := func(at time.Time) string {
		d, err := Receive(deployable(v1alpha1.ReceiverGenericHMAC), token, headers(v1alpha1.ReceiverGenericHMAC, body, token), body, at)
		if err != nil {
			t.Fatal(err)
		}
		return d.ID
	}
	if id(when) != id(when.Add(30*time.Second)) || id(when) == id(when.Add(time.Minute)) {
		t.Error("the same body counts as the same delivery for a minute, and no longer")
	}
}

// FuzzReceive: whoever is not verified is refused, and what is taken in keeps to the
// limits, whatever is sent.
func FuzzReceive(f *testing.F) {
	kinds := []v1alpha1.ReceiverType{
		v1alpha1.ReceiverGenericHMAC, v1alpha1.ReceiverGitHub, v1alpha1.ReceiverGitLab, v1alpha1.ReceiverDockerHub, v1alpha1.ReceiverHarbor,
		v1alpha1.ReceiverQuay, v1alpha1.ReceiverOCI, v1alpha1.ReceiverChartMuseum, v1alpha1.ReceiverCloudEvents, v1alpha1.ReceiverCDEvents,
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("there are no payloads", err)
	}
	for i := range kinds {
		for _, file := range files {
			f.Add(uint8(i), true, "Content-Type", "application/cloudevents+json", payload(f, filepath.Base(file)))
		}
		f.Add(uint8(i), false, "X-Signature-256", "sha256=00", []byte(`{"id":"1","group":"g","application":"a","values":{}}`))
		f.Add(uint8(i), true, "Ce-Type", TypeDeployRequested, []byte(`[{"specversion":"1.0"}]`))
	}
	f.Fuzz(func(t *testing.T, which uint8, valid bool, name, value string, body []byte) {
		kind := kinds[int(which)%len(kinds)]
		h := headers(kind, body, token)
		if !valid {
			h = http.Header{}
		}
		h.Set(name, value)
		d, err := Receive(deployable(kind), token, h, body, when)
		if err != nil {
			if r := refusalOf(t, err); r.Status < 400 {
				t.Fatalf("%s: refused with %d", kind, r.Status)
			}
			return
		}
		if !valid && kind != v1alpha1.ReceiverDockerHub && kind != v1alpha1.ReceiverQuay && !strings.Contains(value, string(token)) && value != sign(body, token) {
			t.Fatalf("%s: heard without a token", kind)
		}
		if d.ID == "" || len(d.ID) > maxID || len(d.Event) > maxID || len(d.Charts) > maxItems || len(d.Deploys) > maxItems {
			t.Fatalf("%s: past the limits: %+v", kind, d)
		}
		for _, c := range d.Charts {
			if err := checkChart(c); err != nil || Registry(c.Registry) != c.Registry {
				t.Fatalf("%s: chart %+v: %v", kind, c, err)
			}
		}
	})
}
