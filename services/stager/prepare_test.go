package stager

import (
	"context"
	"crypto"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"helm.sh/helm/v3/pkg/provenance"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/stager/internal/charttest"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
)

func object(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func TestValuesDecideWhatIsStaged(t *testing.T) {
	const conditional = `
-- Chart.yaml --
{apiVersion: v2, name: shop, version: 1.0.0, dependencies: [{name: db, version: "*", condition: db.enabled}]}
-- charts/db/Chart.yaml --
{apiVersion: v2, name: db, version: 0.1.0}
`
	g := newGroup("one")
	g.Spec.Applications[0].Spec.Release.ValuesFrom = []helmv2.ValuesReference{{Kind: "ConfigMap", Name: "settings"}}
	settings := &corev1.ConfigMap{ObjectMeta: object("apps", "settings"), Data: map[string]string{"values.yaml": "db: {enabled: false}"}}
	w := newWorld(t, g, settings)
	w.shelf["shop"] = charttest.Archive(t, "shop", conditional)
	pieces := func() int {
		t.Helper()
		facts, err := w.desire(t, g)
		if err != nil {
			t.Fatal(err)
		}
		return len(facts[0].Data.(events.ChartsStaged).Applications[0].Pieces)
	}
	if n := pieces(); n != 1 {
		t.Errorf("a subchart that valuesFrom disables is no piece: there are %d", n)
	}
	settings.Data["values.yaml"] = "db: {enabled: true}"
	if err := w.client.Update(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	if n := pieces(); n != 2 {
		t.Errorf("what valuesFrom refers to is read when it is used: there are %d pieces", n)
	}
}

// signed is a provenance file of an archive, and the public key of who signed it.
func signed(t *testing.T, name string, data []byte) (proof, key []byte) {
	t.Helper()
	entity, err := openpgp.NewEntity("Canary", "", "canary@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := (&provenance.Signatory{Entity: entity}).ClearSign(path)
	if err != nil {
		t.Fatal(err)
	}
	var public strings.Builder
	if err := entity.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	return []byte(text), []byte(public.String())
}

func TestAChartProvesWhoMadeIt(t *testing.T) {
	g := newGroup("one")
	g.Spec.Applications[0].Spec.Chart.Verify = &v1alpha1.ChartVerification{
		Provider: v1alpha1.VerifyProvenance, SecretRef: corev1.SecretReference{Name: "keys"},
	}
	w := newWorld(t, g)
	proof, key := signed(t, "shop-1.0.0.tgz", w.shelf["shop"].([]byte))
	w.shelf["shop.prov"] = proof
	keys := &corev1.Secret{ObjectMeta: object("default", "keys"), Data: map[string][]byte{"any": key}}
	if err := w.client.Create(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	if facts, err := w.desire(t, g); err != nil || facts[0].Data.EventType() != events.TypeChartsStaged {
		t.Fatalf("a chart that is signed is staged: %v, %v", facts, err)
	}
	// Now the chart was read before; the keys are read again all the same.
	_, keys.Data["any"] = signed(t, "shop-1.0.0.tgz", w.shelf["shop"].([]byte))
	if err := w.client.Update(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	if _, err := w.desire(t, g); err != nil {
		t.Fatal(err)
	}
	if c, _ := w.staged(t); c.Reason != v1alpha1.ReasonVerificationFailed {
		t.Errorf("a key that is not trusted any more proves nothing: %+v", c)
	}
}

// promising is a shelf whose index promises digests.
type promising struct {
	shelf
	digest  string
	mu      sync.Mutex
	fetched []string
}

func (p *promising) Resolve(ctx context.Context, ref registry.Ref) (*registry.Resolved, error) {
	r, err := p.shelf.Resolve(ctx, ref)
	if err == nil {
		r.Digest, r.URL = p.digest, ref.URL
	}
	return r, err
}

func (p *promising) Fetch(ctx context.Context, r *registry.Resolved) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetched = append(p.fetched, r.URL)
	if strings.Contains(r.URL, "elsewhere") {
		return nil, refusal.Becausef(v1alpha1.ReasonAuthenticationFailed, "not for you")
	}
	return p.shelf.Fetch(ctx, r)
}

func TestADigestIsNoPassword(t *testing.T) {
	w := newWorld(t)
	sum := crypto.SHA256.New()
	sum.Write(w.shelf["shop"].([]byte))
	p := &promising{shelf: w.shelf, digest: "sha256:" + hex.EncodeToString(sum.Sum(nil))}
	w.registry = p
	app := newGroup("one").Spec.Applications[0]
	for range 2 {
		if _, err := w.prepareOne(t.Context(), &app, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.fetched) != 1 {
		t.Errorf("what was read before is not fetched again: %v", p.fetched)
	}
	app.Spec.Chart.URL = "https://elsewhere.example.org"
	if _, err := w.prepareOne(t.Context(), &app, time.Time{}); refusal.Reason(err) != v1alpha1.ReasonAuthenticationFailed {
		t.Errorf("who names the digest of a chart that he cannot fetch does not get it: %v", err)
	}
}

// stuck is a registry that is asked for one chart and does not answer.
type stuck struct {
	registry.Registry
	asked chan struct{}
}

func (s *stuck) Resolve(ctx context.Context, ref registry.Ref) (*registry.Resolved, error) {
	if ref.Name != "evil" {
		return s.Registry.Resolve(ctx, ref)
	}
	close(s.asked)
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestOthersGoOnBesideAHostileChart(t *testing.T) {
	groups := func() (good, evil *v1alpha1.ApplicationGroup) {
		good, evil = newGroup("one"), newGroup("one")
		evil.Name, evil.UID = "evil", "evil"
		evil.Spec.Applications[0].Spec.Chart.Name = "evil"
		return good, evil
	}
	stage := func(t *testing.T, w *world, good *v1alpha1.ApplicationGroup) {
		t.Helper()
		began := time.Now()
		facts, err := w.desire(t, good)
		if err != nil || facts[0].Data.EventType() != events.TypeChartsStaged {
			t.Errorf("another group is staged meanwhile: %v, %v", facts, err)
		}
		t.Logf("in %s", time.Since(began).Round(time.Millisecond))
	}
	t.Run("Archive", func(t *testing.T) {
		good, evil := groups()
		w := newWorld(t, good, evil)
		// Each is among the dearest that the limits let pass.
		evil.Spec.Applications = nil
		for name, a := range chartAttacks() {
			app := newGroup(strings.ToLower(name)).Spec.Applications[0]
			app.Spec.Chart.Name = name
			w.shelf[name] = a.archive(t)
			evil.Spec.Applications = append(evil.Spec.Applications, app)
		}
		if err := w.client.Update(t.Context(), evil); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if facts, err := w.desire(t, evil); err != nil || facts[0].Data.EventType() != events.TypeChartsFailed {
				t.Errorf("the group with the hostile charts is refused: %v, %v", facts, err)
			}
		}()
		stage(t, w, good)
		<-done
	})
	t.Run("Registry", func(t *testing.T) {
		good, evil := groups()
		w := newWorld(t, good, evil)
		s := &stuck{Registry: w.registry, asked: make(chan struct{})}
		w.registry = s
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.prepare(ctx, evil)
		}()
		<-s.asked
		stage(t, w, good)
		cancel()
		<-done
	})
	t.Run("Panic", func(t *testing.T) {
		good, _ := groups()
		w := newWorld(t, good)
		app := good.Spec.Applications[0]
		r := &registry.Resolved{Name: "shop", Version: "1.0.0"}
		w.charts = nil // where there should be a cache
		_, err := w.split(t.Context(), &app, r, nil, w.shelf["shop"].([]byte), "", nil)
		if refusal.Reason(err) != v1alpha1.ReasonInvalidChart || !strings.Contains(fmt.Sprint(err), "nobody has foreseen") {
			t.Errorf("what panics over a chart is the chart's fault, and nobody else's: %v", err)
		}
		if len(w.slots) != 0 {
			t.Error("who panics gives the slot back")
		}
	})
}

// Original is what registries have that staging does not ask for.
func (s shelf) Original(ctx context.Context, r *registry.Resolved) (*registry.Original, error) {
	_, err := s.Signatures(ctx, r)
	return nil, err
}
