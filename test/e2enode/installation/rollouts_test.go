package installation

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
	"orkestra.dev/test/e2enode/realnode"
)

const (
	// releases of each group, one after the other.
	releases = 5
	// steps by which all groups go on: each lets one release more of every group begin.
	steps = releases - 1
	// atFirst are the groups that are under way before anything happens; one more begins with each step but the last.
	atFirst = 5
	// atLeast are under way whenever something happens, and until all of it has.
	atLeast = 4
)

// gate is what all releases but the first of each group wait for. As the test opens it, rollouts are under way for as long as
// something happens to the installation, however fast or slow the machine is.
var gate = client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: "gate"}

// rollouts are groups that roll out while something happens to the installation.
type rollouts struct {
	*installation
	prefix string
	groups []*v1alpha1.ApplicationGroup
	opened int
}

// underWay begins the rollouts, and returns when each has installed its first release and waits to go on.
func (i *installation) underWay(t *testing.T, prefix string) *rollouts {
	t.Helper()
	r := &rollouts{installation: i, prefix: prefix}
	closed := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: gate.Namespace, Name: gate.Name}, Data: map[string]string{"step": "0"}}
	if err := i.Client.Create(t.Context(), closed); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Client.Delete(context.WithoutCancel(t.Context()), closed); err != nil {
			t.Error(err)
		}
	})
	for range atFirst {
		r.begin(t)
	}
	realnode.Poll(t, "the first release of each group", func(ctx context.Context) error {
		if n, err := r.count(ctx); err != nil || n != atFirst {
			return fmt.Errorf("%d groups have it: %w", n, err)
		}
		return nil
	})
	return r
}

// begin one group more.
func (r *rollouts) begin(t *testing.T) {
	t.Helper()
	g := &v1alpha1.ApplicationGroup{}
	if err := yaml.UnmarshalStrict(r.chain(fmt.Sprintf("%s-%d", r.prefix, len(r.groups)), "event", releases), g); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < releases; n++ {
		g.Spec.Applications[n].Spec.Workflow = []v1alpha1.Executor{{
			DAG: v1alpha1.DAG{Name: "gate"}, Type: v1alpha1.ExecutorWait, Timeout: &metav1.Duration{Duration: 2 * realnode.Patience},
			Wait: &v1alpha1.WaitFor{APIVersion: "v1", Kind: "ConfigMap", Namespace: gate.Namespace, Name: gate.Name,
				Expr: fmt.Sprintf("int(self.data.step) >= %d", n)},
		}, {
			DAG: v1alpha1.DAG{Name: "release", Dependencies: []string{"gate"}}, Type: v1alpha1.ExecutorHelmRelease,
		}}
	}
	if err := r.Client.Create(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	r.groups = append(r.groups, g)
}

// count the groups that have a release, and not all.
func (r *rollouts) count(ctx context.Context) (n int, err error) {
	for _, g := range r.groups {
		if err := r.Client.Get(ctx, client.ObjectKeyFromObject(g), g); err != nil {
			return 0, err
		}
		if g.Status.Rollout != nil && g.Status.Rollout.Done > 0 && !realnode.Ready(g) {
			n++
		}
	}
	return n, nil
}

// goOn by a step, and begin one group more unless it is the last.
func (r *rollouts) goOn(t *testing.T) {
	t.Helper()
	n, err := r.count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("step %d: %d rollouts are under way", r.opened, n)
	if n < atLeast {
		t.Errorf("%d rollouts are under way, want %d: too little would be seen", n, atLeast)
	}
	r.opened++
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"data":{"step":"`+strconv.Itoa(r.opened)+`"}}`))
	if err := r.Client.Patch(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: gate.Namespace, Name: gate.Name}}, patch); err != nil {
		t.Fatal(err)
	}
	if r.opened < steps {
		r.begin(t)
	}
}

// replaced goes on with the share of our services' pods that are gone, and makes the last step when all have been replaced.
func (r *rollouts) replaced(t *testing.T, before []corev1.Pod) {
	t.Helper()
	for all := 2 * len(stack.Services); r.opened < steps; r.goOn(t) {
		realnode.Poll(t, "services to be replaced", func(context.Context) error {
			now := r.services(t)
			gone := len(slices.DeleteFunc(slices.Clone(before), func(p corev1.Pod) bool {
				return slices.ContainsFunc(now, func(n corev1.Pod) bool { return n.UID == p.UID })
			}))
			if gone*steps < (r.opened+1)*all {
				return fmt.Errorf("%d are gone: %q", gone, r.pods(t))
			}
			if gone == all && (len(now) != all || slices.ContainsFunc(now, func(p corev1.Pod) bool { return !ready(p) })) {
				return fmt.Errorf("not all of the new ones are ready: %q", r.pods(t))
			}
			return nil
		})
	}
}

// arrived: every group is ready, each release was installed once, each rollout had one workflow, and what was said of it was
// said once.
func (r *rollouts) arrived(t *testing.T) {
	t.Helper()
	for _, g := range r.groups {
		r.Await(t, g)
		of := r.Releases(t, g.Name)
		if len(of) != releases {
			t.Errorf("group %s has %d releases, want %d", g.Name, len(of), releases)
		}
		for _, hr := range of {
			if len(hr.Status.History) != 1 || hr.Status.History[0].Version != 1 {
				t.Errorf("release %s was not installed once: %+v", hr.Name, hr.Status.History)
			}
		}
		if workflows := r.workflows(t, g.Name); len(workflows) != 1 {
			t.Errorf("group %s has had the workflows %q, want one", g.Name, workflows)
		}
	}
	r.saidOnce(t)
}

// remove all groups.
func (r *rollouts) remove(t *testing.T) {
	t.Helper()
	for _, g := range r.groups {
		if err := r.Client.Delete(t.Context(), g); err != nil {
			t.Error(err)
		}
	}
	for _, g := range r.groups {
		realnode.Poll(t, "group "+g.Name+" to go", func(ctx context.Context) error {
			if err := r.Client.Get(ctx, client.ObjectKeyFromObject(g), g); !apierrors.IsNotFound(err) {
				return fmt.Errorf("it is there (%w): %+v", err, g.Status.Conditions)
			}
			return nil
		})
	}
}

// saidOnce reads the stream as a reader may: the whole story of each group is in it, and nothing twice.
func (r *rollouts) saidOnce(t *testing.T) {
	t.Helper()
	bus, err := events.Connect(t.Context(), r.reader(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, g := range r.groups {
		// The status of a group is written before the end of its rollout is said.
		realnode.Poll(t, "the whole story of group "+g.Name, func(ctx context.Context) error {
			count, ids := map[events.Type]int{}, map[string]uint64{}
			err := bus.Follow(ctx, events.FollowOptions{Group: g.Name}, func(f events.Fact, _ []byte) error {
				count[f.Type()]++
				if before, ok := ids[f.Source+" "+f.ID]; ok {
					t.Errorf("group %s: event %s is in the stream twice: %d and %d", g.Name, f.ID, before, f.Sequence)
				}
				ids[f.Source+" "+f.ID] = f.Sequence
				return nil
			})
			if err != nil {
				return err
			}
			for typ, want := range map[events.Type]int{
				events.TypeGroupDesired: 1, events.TypeChartsStaged: 1, events.TypeWorkflowSubmitted: 1,
				events.TypeReleaseReady: releases, events.TypeRolloutSucceeded: 1,
			} {
				if count[typ] != want {
					return fmt.Errorf("%s was said %d times, want %d", typ, count[typ], want)
				}
			}
			return nil
		})
	}
}

// upgradedWithoutNATS: all services are replaced, and the only server of NATS at the same time.
func (i *installation) upgradedWithoutNATS(t *testing.T) {
	before := i.services(t)
	r := i.underWay(t, "upgrade")
	i.upgrade(t, i.values("services", "debug"), false)
	if err := i.Client.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "orkestra-nats-0"}}); err != nil {
		t.Fatal(err)
	}
	r.replaced(t, before)
	r.arrived(t)
	r.remove(t)
}

// services are the pods of our own services.
func (i *installation) services(t *testing.T) []corev1.Pod {
	t.Helper()
	return slices.DeleteFunc(i.podsOf(t), func(p corev1.Pod) bool { return !slices.Contains(stack.Services, component(p)) })
}

// ready tells whether a pod is, and is to stay.
func ready(p corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
