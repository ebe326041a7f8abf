package admit

import (
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// referring is a group that takes values from two objects, and credentials from two.
func referring(change ...func(*v1alpha1.ApplicationGroup)) *v1alpha1.ApplicationGroup {
	return group(append([]func(*v1alpha1.ApplicationGroup){func(g *v1alpha1.ApplicationGroup) {
		spec := &g.Spec.Applications[0].Spec
		spec.Release.ValuesFrom = []helmv2.ValuesReference{
			{Kind: "Secret", Name: "passwords"}, {Kind: "ConfigMap", Name: "sizes"}, {Kind: "ConfigMap", Name: "sizes", ValuesKey: "more"},
		}
		spec.Chart.AuthSecretRef = &corev1.ObjectReference{Name: "login"}
		spec.Chart.Verify = &v1alpha1.ChartVerification{
			Provider: v1alpha1.VerifyProvenance, SecretRef: corev1.SecretReference{Name: "keys", Namespace: "trust"},
		}
	}}, change...)...)
}

var (
	passwords = Reference{Kind: "Secret", Namespace: "a", Name: "passwords", Use: Values}
	sizes     = Reference{Kind: "ConfigMap", Namespace: "a", Name: "sizes", Use: Values}
	login     = Reference{Kind: "Secret", Namespace: "default", Name: "login", Use: Credentials}
	keys      = Reference{Kind: "Secret", Namespace: "trust", Name: "keys", Use: Credentials}
)

func TestReferences(t *testing.T) {
	if diff := cmp.Diff([]Reference{login, keys, sizes, passwords}, References(referring())); diff != "" {
		t.Errorf("each object is named once, where it is looked for (-want +got):\n%s", diff)
	}
	if got := References(group()); len(got) != 0 {
		t.Errorf("a group that refers to nothing has no references: got %v", got)
	}
}

func TestChangedReferences(t *testing.T) {
	rollout := events.Rollout{Group: "g", UID: "u", Generation: 3}
	versions := func(changed ...Reference) map[Reference]string {
		out := map[Reference]string{passwords: "p/1", sizes: "s/1", login: "l/1", keys: "k/1"}
		for _, r := range changed {
			out[r] += "2"
		}
		return out
	}
	missing := versions()
	delete(missing, passwords)
	recorded := State{Group: referring(), Rollout: rollout, Versions: versions()}.record(rollout)
	noted := func(g *v1alpha1.ApplicationGroup) {
		g.Annotations = map[string]string{v1alpha1.AnnotationReferences: recorded}
	}
	garbled := func(g *v1alpha1.ApplicationGroup) {
		g.Annotations = map[string]string{v1alpha1.AnnotationReferences: "x"}
	}
	refused := func(reason string, generation int64) func(*v1alpha1.ApplicationGroup) {
		return func(g *v1alpha1.ApplicationGroup) {
			g.Status.Conditions = []metav1.Condition{{
				Type: v1alpha1.ConditionStaged, Status: metav1.ConditionFalse, Reason: reason, ObservedGeneration: generation,
			}}
		}
	}
	held := func(g *v1alpha1.ApplicationGroup) { g.Spec.Suspend = true }
	justNow := rollout
	justNow.RequestedAt = now.Add(-time.Second).Format(time.RFC3339Nano)
	busy := referring(func(g *v1alpha1.ApplicationGroup) {
		g.Annotations = map[string]string{v1alpha1.AnnotationReferences: State{Group: g, Rollout: justNow, Versions: versions()}.record(justNow)}
	})

	for name, tc := range map[string]struct {
		reason string
		state  State
		want   Action
		again  time.Duration
	}{
		"First": {
			reason: "what a rollout sees is noted before it is announced",
			state:  State{Group: referring(), Rollout: rollout, Versions: versions()}, want: Record,
		},
		"Noted": {
			reason: "and then it is announced, also by an intake that has just been started",
			state:  State{Group: referring(noted), Rollout: rollout, Versions: versions()}, want: Announce,
		},
		"NewGeneration": {
			"a new spec is a rollout of its own: what changed with it is only noted",
			State{Group: referring(noted), Rollout: events.Rollout{Group: "g", UID: "u", Generation: 4}, Versions: versions(passwords)}, Record, 0,
		},
		"Garbled":          {"a note that somebody else wrote is written again", State{Group: referring(garbled), Rollout: rollout, Versions: versions()}, Record, 0},
		"SecretChanged":    {"values that changed are rolled out", State{Group: referring(noted), Rollout: rollout, Versions: versions(passwords)}, Request, 0},
		"ConfigMapChanged": {"wherever they are", State{Group: referring(noted), Rollout: rollout, Versions: versions(sizes)}, Request, 0},
		"SecretGone":       {"and where they are gone", State{Group: referring(noted), Rollout: rollout, Versions: missing}, Request, 0},
		"LoginChanged": {
			"a group that has its charts does not care for a new login",
			State{Group: referring(noted), Rollout: rollout, Versions: versions(login, keys)}, Announce, 0,
		},
		"LoginMended": {
			"one that was refused does",
			State{Group: referring(noted, refused(v1alpha1.ReasonAuthenticationFailed, 3)), Rollout: rollout, Versions: versions(login)}, Request, 0,
		},
		"KeysMended": {
			"and so for keys",
			State{Group: referring(noted, refused(v1alpha1.ReasonVerificationFailed, 3)), Rollout: rollout, Versions: versions(keys)}, Request, 0,
		},
		"StillRefused": {
			"but not while they are what they were",
			State{Group: referring(noted, refused(v1alpha1.ReasonVerificationFailed, 3)), Rollout: rollout, Versions: versions()}, Announce, 0,
		},
		"RefusedForAnotherReason": {
			"no login helps where there is no chart",
			State{Group: referring(noted, refused(v1alpha1.ReasonChartNotFound, 3)), Rollout: rollout, Versions: versions(login)}, Announce, 0,
		},
		"RefusedBefore": {
			"what was refused of an older spec is past",
			State{Group: referring(noted, refused(v1alpha1.ReasonAuthenticationFailed, 2)), Rollout: rollout, Versions: versions(login)}, Announce, 0,
		},
		"Held": {
			"a group that is held is asked for nothing",
			State{Group: referring(noted, held), Rollout: rollout, Versions: versions(passwords)}, Suspend, 0,
		},
		"Restless": {
			"an object that is written all the time does not keep a group from being rolled out",
			State{Group: busy, Rollout: justNow, Versions: versions(sizes)}, Announce, 4 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.state.Now = now
			d := Next(tc.state)
			if d.Action != tc.want || d.Again != tc.again {
				t.Fatalf("%s: got %s, again in %s, want %s, %s", tc.reason, d.Action, d.Again, tc.want, tc.again)
			}
			if d.Action != Record && d.Action != Request {
				return
			}
			// Once it is written, there is nothing more to say of it.
			g := tc.state.Group.DeepCopy()
			g.Annotations = map[string]string{v1alpha1.AnnotationReferences: d.Record}
			after := State{Group: g, Rollout: tc.state.Rollout, Versions: tc.state.Versions, Now: now.Add(time.Hour)}
			if d.RequestedAt != "" {
				after.Rollout.RequestedAt = d.RequestedAt
			}
			if next := Next(after); next.Action != Announce {
				t.Errorf("%s: after it was written: got %s, want %s", tc.reason, next.Action, Announce)
			}
			for _, r := range References(g) {
				if strings.Contains(d.Record, r.Name) {
					t.Errorf("the note names %s", r.Name)
				}
			}
		})
	}
}
