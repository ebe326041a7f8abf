package e2e

import (
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
	status, answer, err := toMuseum(t.Context(), http.MethodPost, "/api/"+group+"/charts", museumPassword(t), archive)
	if err != nil || status != http.StatusCreated {
		t.Fatalf("pushing by hand: %d %s, %v", status, answer, err)
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
