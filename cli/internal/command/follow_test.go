package command

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/tree"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

func groupWith(conditions ...metav1.Condition) *v1alpha1.ApplicationGroup {
	for i := range conditions {
		conditions[i].ObservedGeneration = 1
	}
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", Generation: 1}}
	g.Status.Conditions = conditions
	return g
}

var (
	isReady   = metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSucceeded, Message: "done"}
	isFailed  = metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonWorkflowFailed, Message: "web: no"}
	isStalled = metav1.Condition{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue}
	notFound  = apierrors.NewNotFound(schema.GroupResource{Resource: "applicationgroups"}, "shop")
)

// look is what is seen, one look after another, and then the last one for ever.
func look(sights ...any) func(context.Context) (tree.State, error) {
	return func(context.Context) (tree.State, error) {
		sight := sights[0]
		if len(sights) > 1 {
			sights = sights[1:]
		}
		if err, ok := sight.(error); ok {
			return tree.State{}, err
		}
		return tree.State{Group: sight.(*v1alpha1.ApplicationGroup)}, nil
	}
}

func TestFollow(t *testing.T) {
	away := apierrors.NewServiceUnavailable("starting")
	cases := map[string]struct {
		reason string
		look   func(context.Context) (tree.State, error)
		fails  bool
		err    string
		out    []string
	}{
		"Ready":      {reason: "it ends well when the group is ready", look: look(groupWith(), groupWith(), groupWith(isReady)), out: []string{"shop Working waiting for generation 1 to be taken up", "shop Ready done"}},
		"Failed":     {reason: "and badly when it has failed, for good", look: look(groupWith(), groupWith(isFailed), groupWith(isFailed, isStalled)), fails: true, out: []string{"shop Working waiting for generation 1 to be taken up", "shop Failed WorkflowFailed: web: no", "", "WorkflowFailed: web: no", "", "What was made is left as it is. Mend the spec and apply it, or try it again as it is:", "orkestra retry shop"}},
		"Gone":       {reason: "a group that goes while it is watched is gone", look: look(groupWith(), notFound), out: []string{"shop Working waiting for generation 1 to be taken up", "the group is gone"}},
		"NeverThere": {reason: "one that never was is not waited for", look: look(notFound), err: "not found"},
		"Away":       {reason: "a server that is away for a while is waited for", look: look(groupWith(), away, away, groupWith(isReady)), out: []string{"shop Working waiting for generation 1 to be taken up", away.Error(), "shop Ready done"}},
		"Forbidden":  {reason: "what will not pass is not", look: look(groupWith(), apierrors.NewForbidden(schema.GroupResource{}, "shop", errors.New("no"))), err: "forbidden", out: []string{"shop Working waiting for generation 1 to be taken up"}},
		"Late":       {reason: "it gives up after its time", look: look(groupWith()), err: "not ready after", out: []string{"shop Working waiting for generation 1 to be taken up"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			cmd := &cobra.Command{RunE: func(cmd *cobra.Command, _ []string) error {
				return follow(cmd, following{look: tc.look, done: tree.Done, every: time.Millisecond, timeout: 200 * time.Millisecond, program: "orkestra"})
			}, SilenceErrors: true, SilenceUsage: true}
			cmd.SetOut(&out)
			cmd.SetArgs([]string{"shop"})
			err := cmd.ExecuteContext(t.Context())
			switch {
			case tc.err != "":
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("%s: got %v", tc.reason, err)
				}
			case errors.Is(err, errFailed) != tc.fails || err != nil && !tc.fails:
				t.Errorf("%s: got %v", tc.reason, err)
			}
			var got []string
			for line := range strings.Lines(out.String()) {
				got = append(got, strings.Join(strings.Fields(line), " "))
			}
			if diff := cmp.Diff(tc.out, got); diff != "" {
				t.Errorf("a line when something changes (-want +got):\n%s", diff)
			}
		})
	}
}

// On a terminal each tree takes the place of the one before.
func TestScreen(t *testing.T) {
	var out bytes.Buffer
	s := &screen{w: &out, live: true, last: map[string]string{}}
	for _, err := range []error{
		s.show(tree.Node{Name: "shop", Phase: tree.Working, Children: []tree.Node{{Name: "web", Phase: tree.Pending}}}),
		s.say("away"), s.say("away"),
		s.show(tree.Node{Name: "shop", Phase: tree.Ready}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := "shop    ↻ Working\x1b[K\n└─ web  · Pending\x1b[K\n\x1b[J" + "away\x1b[K\n" + "\x1b[3A\rshop  ✓ Ready\x1b[K\n\x1b[J"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestState(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, wfv1.AddToScheme, helmv2.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	owned := metav1.ObjectMeta{Name: "web", Namespace: "ns", Labels: map[string]string{v1alpha1.LabelOwner: "shop"}}
	other := metav1.ObjectMeta{Name: "other", Namespace: "ns", Labels: map[string]string{v1alpha1.LabelOwner: "other"}}
	forbidden, hidden := false, false
	from := fake.NewClientBuilder().WithScheme(scheme).
		WithObjects(groupWith(), &helmv2.HelmRelease{ObjectMeta: owned}, &helmv2.HelmRelease{ObjectMeta: other}, &wfv1.Workflow{ObjectMeta: owned}).
		WithInterceptorFuncs(interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, ok := list.(*wfv1.WorkflowList); ok && forbidden {
				return apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("no"))
			}
			if _, ok := list.(*helmv2.HelmReleaseList); ok && hidden {
				return apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("no"))
			}
			return c.List(ctx, list, opts...)
		}}).Build()
	c := &cluster{namespace: "ns"}
	s, err := c.state(t.Context(), from, "shop")
	if err != nil || len(s.Releases) != 1 || len(s.Workflows) != 1 {
		t.Errorf("the group's own objects: %v, %d releases, %d workflows", err, len(s.Releases), len(s.Workflows))
	}
	forbidden = true
	if s, err = c.state(t.Context(), from, "shop"); err != nil || len(s.Releases) != 1 {
		t.Errorf("who may not see workflows sees the rest: %v", err)
	}
	hidden = true
	if s, err = c.state(t.Context(), from, "shop"); err != nil || !s.Hidden {
		t.Errorf("nor need releases be seen: %v", err)
	}
	if _, err = c.state(t.Context(), from, "none"); !apierrors.IsNotFound(err) {
		t.Errorf("a group that is not there: %v", err)
	}
}

func TestEvents(t *testing.T) {
	nats := eventstest.Single(t)
	bus := eventstest.Bus(t, nats.URL(), "stager")
	r := events.Rollout{Group: "shop", UID: "6c1f5c4e-7b1e-4a54-8a4d-0e5f1d2c3b4a", Generation: 3}
	other := r
	other.Group, other.UID = "other", "7c1f5c4e-7b1e-4a54-8a4d-0e5f1d2c3b4a"
	for _, f := range []events.Fact{
		events.New(r, events.GroupDesired{}),
		events.New(other, events.GroupDesired{}),
		events.New(r, events.ChartsFailed{Application: "web", Chart: "web", URL: "https://charts.example.com", Reason: "ChartNotFound", Message: "no such chart"}),
	} {
		if err := bus.Say(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := run(t, "", "events", "--nats-url", nats.URL(), "--group", "shop")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 2 || !strings.Contains(lines[0], "group.desired") || !strings.HasSuffix(lines[1], "web: ChartNotFound: no such chart") {
		t.Errorf("the story of one group: exit code %d, %s\n%s", code, errs, out)
	}
	t.Setenv("NATS_URL", nats.URL())
	code, out, errs = run(t, "", "events", "--type", "group.desired", "-o", "json")
	if code != 0 || strings.Count(out, "\n") != 2 || strings.Count(out, `"specversion"`) != 2 {
		t.Errorf("CloudEvents, one to a line: exit code %d, %s\n%s", code, errs, out)
	}
	t.Setenv("NATS_URL", "nats://127.0.0.1:1")
	if code, _, errs = run(t, "", "events"); code != 1 || !strings.Contains(errs, "NATS") {
		t.Errorf("a server that is not there is said to be: exit code %d: %s", code, errs)
	}
}
