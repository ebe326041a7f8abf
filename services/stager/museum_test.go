package stager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/stage"
)

// answers is a server that gives one answer to each request line.
type answers map[string]struct {
	code int
	body string
}

func (a answers) serve(t *testing.T, prefix string) (*chartMuseum, *[]string) {
	t.Helper()
	var bodies []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := r.Method + " " + r.URL.RequestURI()
		answer, ok := a[line]
		if !ok {
			t.Errorf("unexpected request %s", line)
		}
		if f, _, err := r.FormFile("chart"); err == nil {
			b, err := io.ReadAll(f)
			if err != nil {
				t.Error(err)
			}
			bodies = append(bodies, string(b))
		}
		w.WriteHeader(answer.code)
		fmt.Fprint(w, answer.body)
	}))
	t.Cleanup(s.Close)
	m, err := newMuseum(s.URL+prefix, "")
	if err != nil {
		t.Fatal(err)
	}
	return m, &bodies
}

func TestHeld(t *testing.T) {
	m, _ := answers{
		"GET /group/index.yaml":  {200, "apiVersion: v1\nentries:\n  web:\n  - {name: web, version: v1+orkestra.1a, digest: ab, urls: [charts/x], created: 2026-01-02T03:04:05Z}\n  - {name: web, version: v1, digest: cd}\n"},
		"GET /new/index.yaml":    {200, "apiVersion: v1\nentries: {}\n"},
		"GET /broken/index.yaml": {200, `<html>`},
		"GET /down/index.yaml":   {500, `{"error":"disk"}`},
	}.serve(t, "")
	h, err := m.Held(t.Context(), "group")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(held{{"web", "v1"}: "sha256:cd", {"web", "v1+orkestra.1a"}: "sha256:ab"}, h); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if h, err := m.Held(t.Context(), "new"); err != nil || len(h) != 0 {
		t.Errorf("a tenant that is new holds nothing: %v, %v", h, err)
	}
	for _, tenant := range []string{"broken", "down"} {
		if _, err := m.Held(t.Context(), tenant); refusal.Reason(err) != v1alpha1.ReasonStagingUnavailable {
			t.Errorf("%s: want StagingUnavailable, got %v", tenant, err)
		}
	}
}

func TestPush(t *testing.T) {
	p := stage.Piece{Chart: "web", Version: "1.0.0+a", Digest: archive.Digest([]byte("mine")), Archive: []byte("mine")}
	for name, c := range map[string]struct {
		promise string
		prefix  string
		answers answers
		digest  string
		say     string
	}{
		"Created": {"a chart is taken", "", answers{"POST /api/group/charts": {201, `{"saved":true}`}}, p.Digest, ""},
		"Prefix":  {"also below a path", "/museum/", answers{"POST /museum/api/group/charts": {201, ``}}, p.Digest, ""},
		"Other": {"what is there already is told by its own digest", "/m", answers{
			"POST /m/api/group/charts":            {409, `{"error":"exists"}`},
			"GET /m/group/charts/web-1.0.0+a.tgz": {200, "theirs"},
		}, archive.Digest([]byte("theirs")), ""},
		"Full":         {"no other answer is a success: helm-push takes all for one", "", answers{"POST /api/group/charts": {507, `{"error":"repo has reached storage limit"}`}}, "", "507 Insufficient Storage: repo has reached storage limit"},
		"Failing":      {"nor this", "", answers{"POST /api/group/charts": {500, ``}}, "", "500"},
		"Unauthorized": {"nor that", "", answers{"POST /api/group/charts": {401, ``}}, "", "401"},
	} {
		t.Run(name, func(t *testing.T) {
			m, bodies := c.answers.serve(t, c.prefix)
			digest, err := m.Push(t.Context(), "group", p)
			if digest != c.digest {
				t.Errorf("%s: digest %q, want %q", c.promise, digest, c.digest)
			}
			if c.say == "" && err != nil || c.say != "" && (refusal.Reason(err) != v1alpha1.ReasonStagingUnavailable || !strings.Contains(err.Error(), c.say)) {
				t.Errorf("%s: error %v, want it to say %q", c.promise, err, c.say)
			}
			if diff := cmp.Diff([]string{"mine"}, *bodies); diff != "" {
				t.Errorf("the archive is what is sent (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPushStops(t *testing.T) {
	m, _ := answers{}.serve(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Push(ctx, "group", stage.Piece{}); !errors.Is(err, context.Canceled) || refusal.Reason(err) != "" {
		t.Errorf("being told to stop is not the museum's fault: %v", err)
	}
}

func TestRemove(t *testing.T) {
	m, _ := answers{
		"DELETE /api/group/charts/web/1.0.0": {200, `{"deleted":true}`},
		"DELETE /api/group/charts/web/2.0.0": {404, `{"error":"gone"}`},
		"DELETE /api/group/charts/web/3.0.0": {500, `{"error":"disk"}`},
	}.serve(t, "")
	for version, want := range map[string]string{"1.0.0": "", "2.0.0": "", "3.0.0": v1alpha1.ReasonStagingUnavailable} {
		if err := m.Remove(t.Context(), "group", museumChart{"web", version}); refusal.Reason(err) != want {
			t.Errorf("%s: %v", version, err)
		}
	}
}
