package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
	"orkestra.dev/test/repository"
)

var (
	seed     = flag.Uint64("seed", 0, "seed of TestRandomLives; 0 takes one by the clock")
	rollouts = flag.Int("rollouts", 50, "rollouts of TestRandomLives, over three groups")
)

// Three groups live random lives side by side, with updates, failures and deletions,
// while services are killed at random. Each ends, every time, where its spec says, or
// rolled back and saying so; and at the end nothing is left.
func TestRandomLives(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("again: go test ./test/e2e -run TestRandomLives -args -seed %d -rollouts %d", *seed, *rollouts)
	s := serve(t)
	if err := modelRepository(s); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	kills := make(chan string)
	go func() {
		defer close(kills)
		killAtRandom(ctx, t, rand.New(rand.NewPCG(*seed, 0)), kills)
	}()
	killed := []string{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for k := range kills {
			killed = append(killed, k)
		}
	}()
	t.Run("groups", func(t *testing.T) {
		for _, name := range []string{"life-a", "life-b", "life-c"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := fnv.New64()
				h.Write([]byte(name))
				live(t, s, &model{name: name, rng: rand.New(rand.NewPCG(*seed, h.Sum64()))}, *rollouts/3+1)
			})
		}
	})
	stop()
	<-done
	t.Logf("killed %d times: %s", len(killed), strings.Join(killed, " "))
}

// killAtRandom kills one or both replicas of a service every few seconds, and starts
// them again.
func killAtRandom(ctx context.Context, t *testing.T, rng *rand.Rand, kills chan<- string) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second + time.Duration(rng.IntN(3000))*time.Millisecond):
		}
		service := stack.Services[rng.IntN(len(stack.Services))]
		first := 1 + rng.IntN(replicas)
		last := first + rng.IntN(replicas-first+1)
		for n := first; n <= last; n++ {
			p, err := env.stack.Process(replica(service, n))
			if err == nil {
				err = p.Kill(context.WithoutCancel(ctx))
			}
			if err != nil {
				t.Errorf("killing %s: %v", replica(service, n), err)
			}
			kills <- replica(service, n)
		}
		for n := first; n <= last; n++ {
			p, err := env.stack.Process(replica(service, n))
			if err == nil {
				err = p.Start(context.WithoutCancel(ctx))
			}
			if err != nil {
				t.Errorf("starting %s: %v", replica(service, n), err)
			}
		}
	}
}

// live takes a group through as many rollouts, and through its end.
func live(t *testing.T, s *repository.Server, m *model, rollouts int) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the story of %s:\n  %s", m.name, strings.Join(m.story, "\n  "))
			dump(t, m.name)
		}
	})
	for range rollouts {
		m.step()
		m.apply(t, s.URL)
		// Sometimes the next change does not wait for this one.
		if m.rng.IntN(4) == 0 {
			if !m.want.broken() {
				m.goods = append(m.goods, m.want.clone())
			}
			time.Sleep(time.Duration(m.rng.IntN(1500)) * time.Millisecond)
			continue
		}
		m.settle(t)
		if m.rng.IntN(12) == 0 {
			m.end(t)
		}
	}
	if m.exists { // the last change may have been its end
		m.settle(t)
		m.end(t)
	}
	for _, e := range env.recorder.Edges(m.name) {
		if e.Overhead < 0 {
			t.Errorf("%s was created %s before %s was ready", e.Child, -e.Overhead, e.Parent)
		}
	}
}

// apply what is wanted.
func (m *model) apply(t *testing.T, url string) {
	t.Helper()
	want := m.group(url)
	if !m.exists {
		m.tell("create")
		if err := env.client.Create(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		// It may be at rest with nothing: where it was superseded before it was ready, and
		// what superseded it is broken.
		m.exists, m.goods = true, []modelSpec{{}}
		return
	}
	update(t, m.name, func(g *v1alpha1.ApplicationGroup) {
		g.Spec = want.Spec
		if g.Annotations == nil {
			g.Annotations = map[string]string{}
		}
		g.Annotations[v1alpha1.AnnotationRequestedAt] = time.Now().UTC().Format(time.RFC3339Nano)
	})
}

// settle waits until the group is at rest, and compares it with the model.
func (m *model) settle(t *testing.T) {
	t.Helper()
	var g *v1alpha1.ApplicationGroup
	eventually(t, 3*time.Minute, "group "+m.name+" to come to rest", func(ctx context.Context) (err error) {
		if g, err = get(ctx, m.name); err != nil {
			return err
		}
		return resting(g)
	})
	if !m.want.broken() {
		if !ready(g) {
			t.Fatalf("%s is not ready: %s", m.name, conditions(g))
		}
		m.goods = []modelSpec{m.want.clone()}
	} else if ready(g) {
		t.Fatalf("%s is ready, and a chart of it cannot be installed: %s", m.name, conditions(g))
	}
	var problems []string
	eventually(t, 2*time.Minute, "group "+m.name+" to be as its model", func(context.Context) error {
		problems = nil
		for _, spec := range m.goods {
			problem := m.differs(t, spec)
			if problem == "" {
				m.goods = []modelSpec{spec}
				return nil
			}
			problems = append(problems, problem)
		}
		return errors.New(strings.Join(problems, "\nor\n"))
	})
	m.tell("at rest: %s", message(g, v1alpha1.ConditionReady))
}

// resting says what a group still has to do.
func resting(g *v1alpha1.ApplicationGroup) error {
	c := apimeta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionReady)
	working := apimeta.IsStatusConditionTrue(g.Status.Conditions, v1alpha1.ConditionReconciling)
	if c == nil || c.Status == metav1.ConditionUnknown || c.ObservedGeneration != g.Generation || working ||
		g.Status.LastHandledReconcileAt != g.Annotations[v1alpha1.AnnotationRequestedAt] {
		return errors.New(conditions(g))
	}
	return nil
}

// differs says how what is installed differs from a spec; empty is not at all.
func (m *model) differs(t *testing.T, spec modelSpec) string {
	t.Helper()
	versions, messages := spec.releases(m.name)
	said := map[string]string{}
	for name, object := range configMaps(t, m.name) {
		said[name] = object.(map[string]any)["data"].(map[string]string)["message"]
	}
	return cmp.Diff(versions, chartVersions(t, m.name)) + cmp.Diff(messages, said)
}

// end deletes the group, and sees that nothing of it is left.
func (m *model) end(t *testing.T) {
	t.Helper()
	if !m.exists {
		return
	}
	m.tell("delete")
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: m.name}}
	if err := env.client.Delete(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Minute, "group "+m.name+" to go", func(ctx context.Context) error {
		err := env.client.Get(ctx, client.ObjectKey{Name: m.name}, g)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New(conditions(g)))
	})
	nothingLeft(t, m.name)
	noChartLeft(t, m.name)
	if left := configMaps(t, m.name); len(left) != 0 {
		t.Fatalf("objects left: %v", names(left))
	}
	m.exists, m.goods = false, nil
}

// noChartLeft fails where a chart of the group is still staged.
func noChartLeft(t *testing.T, name string) {
	t.Helper()
	eventually(t, time.Minute, "the staged charts of group "+name+" to go", func(ctx context.Context) error {
		for _, list := range []client.ObjectList{&sourcev1.HelmChartList{}, &sourcev1.HelmRepositoryList{}} {
			if err := env.client.List(ctx, list, client.MatchingLabels{v1alpha1.LabelOwner: name}); err != nil {
				return err
			}
			if n := apimeta.LenList(list); n > 0 {
				return fmt.Errorf("%d objects of %T", n, list)
			}
		}
		staged, err := museum(ctx, name)
		if err == nil && len(staged) > 0 {
			err = fmt.Errorf("ChartMuseum has %v", names(staged))
		}
		return err
	})
}
