package main

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// What is read from a service, and asked by the real dashboard, is in a picture that is
// well-formed.
func TestPicture(t *testing.T) {
	data, err := os.ReadFile("../../../deploy/monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	panels, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# TYPE orkestra_groups gauge\norkestra_groups{state=\"<ready>\"} 7\n# TYPE orkestra_rollout_oldest_seconds gauge\norkestra_rollout_oldest_seconds 42\n")
	}))
	t.Cleanup(service.Close)
	r := newRecorder()
	begin := time.Now()
	ctx, done := context.WithTimeout(t.Context(), 3*time.Second)
	defer done()
	if err := r.record(ctx, []target{{job: "orkestra", url: service.URL}, {job: "away", url: "http://127.0.0.1:1"}}, 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	drawn, err := r.answers(t.Context(), panels, begin, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	svg := Draw(drawn)
	for _, p := range panels {
		if !strings.Contains(svg, ">"+html.EscapeString(p.Title)+"<") {
			t.Errorf("panel %q is not in the picture", p.Title)
		}
	}
	for _, want := range []string{">&lt;ready&gt;<", ">42 s<", ">8<", "no data"} {
		if !strings.Contains(svg, want) {
			t.Errorf("the picture does not say %s", want)
		}
	}
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	ctx, done := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer done()
	if err := newRecorder().record(ctx, []target{{job: "away", url: "http://127.0.0.1:1"}}, time.Second); err == nil || !strings.Contains(err.Error(), "nobody has answered") {
		t.Errorf("a picture of nothing is an error: %v", err)
	}
}

func TestUnits(t *testing.T) {
	for want, is := range map[string]string{
		"12 ms": format(0.012, "s"), "1.5 s": format(1.5, "s"), "0.25/s": format(0.25, "ops"), "64 MiB": format(64<<20, "bytes"), "3": format(3, "short"),
	} {
		if is != want {
			t.Errorf("got %q, want %q", is, want)
		}
	}
	for _, v := range []float64{0, 0.3, 1, 7, 42, 99} {
		if top := nice(v); top < v || top <= 0 || v > 0 && top > 3*v {
			t.Errorf("an axis up to %g for %g", top, v)
		}
	}
}
