package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/test/repository"
)

// A chart in ChartMuseum is announced, whoever pushed it: the stager, or anybody.
func TestPushedChartsAreAnnounced(t *testing.T) {
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	const group = "announced"
	create(t, chain(group, s.URL, 1))
	awaitReady(t, group, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	archive, err := repository.Pack("foreign", "2.0.0", configMapChart())
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, env.vars["CHARTMUSEUM_URL"]+"/api/"+group+"/charts", bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("pushing by hand: %s, %v", resp.Status, err)
	}
	want := map[string]string{"small": "1.0.0", "foreign": "2.0.0"}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(archive))
	eventually(t, 30*time.Second, "both charts to be announced", func(context.Context) error {
		got := map[string]string{}
		for _, f := range facts(t, group) {
			p, ok := f.Data.(events.ChartPushed)
			if !ok || p.Tenant != group {
				continue
			}
			if p.Chart == "foreign" && p.Digest != digest {
				return fmt.Errorf("it is announced as %s, and is %s", p.Digest, digest)
			}
			if got[p.Chart] != "" {
				t.Fatalf("%s is announced twice", p.Chart)
			}
			got[p.Chart] = p.Version
		}
		if len(got) < len(want) {
			return errors.New("they are not")
		}
		return nil
	})
}
