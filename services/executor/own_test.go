package executor

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/executor/execute"
)

// begunNow is a release as it is written, and as it is when Helm is done with it.
func begunNow() (written, done *helmv2.HelmRelease) {
	written = release("web")
	written.UID, written.Generation = "uid-web", 3
	written.Labels = map[string]string{v1alpha1.LabelOwner: "shop"}
	written.Annotations = map[string]string{
		v1alpha1.AnnotationWorkflow: wfName, v1alpha1.AnnotationWorkflowUID: "uid-wf", v1alpha1.AnnotationStartedAt: "2026-01-02T03:04:05.6Z",
	}
	written.Status = helmv2.HelmReleaseStatus{}
	done = written.DeepCopy()
	makeReady(done)
	return written, done
}

func told(hr *helmv2.HelmRelease, attempt uint64) events.Fact {
	f := events.New(rollout, events.ReleaseReady{ReleaseRef: events.ReleaseRef{
		Workflow: wfName, Namespace: hr.Namespace, Name: hr.Name, ReleaseUID: string(hr.UID), ReleaseGeneration: hr.Generation,
	}})
	f.Attempt = attempt
	return f
}

func TestOwnReleases(t *testing.T) {
	written, done := begunNow()
	edited := func(edit func(*helmv2.HelmRelease)) *helmv2.HelmRelease {
		hr := done.DeepCopy()
		edit(hr)
		return hr
	}
	for name, tc := range map[string]struct {
		reason string
		began  *helmv2.HelmRelease
		sees   []*helmv2.HelmRelease
		fact   events.Fact
		err    error
		looks  int
		want   bool
	}{
		"Done": {
			reason: "its end is looked at once, and the event that tells of it is answered",
			began:  written, sees: []*helmv2.HelmRelease{written, done, done}, fact: told(done, 1), looks: 1, want: true,
		},
		"NotOurs": {
			reason: "what another replica has begun is told to it, or to us, by the event",
			began:  nil, sees: []*helmv2.HelmRelease{done}, fact: told(done, 1),
		},
		"AsWanted": {
			reason: "the look that wrote it saw that it is done",
			began:  done, sees: []*helmv2.HelmRelease{done}, fact: told(done, 1),
		},
		"Before": {
			reason: "the informer shows how it was before we wrote it",
			began:  written, fact: told(done, 1),
			sees: []*helmv2.HelmRelease{edited(func(hr *helmv2.HelmRelease) { hr.Annotations[v1alpha1.AnnotationStartedAt] = "2025" })},
		},
		"AnotherOfThatName": {
			reason: "somebody has made it anew",
			began:  written, fact: told(done, 1), sees: []*helmv2.HelmRelease{edited(func(hr *helmv2.HelmRelease) { hr.UID = "other" })},
		},
		"Going": {
			reason: "what is being deleted is not at rest",
			began:  written, fact: told(done, 1),
			sees: []*helmv2.HelmRelease{edited(func(hr *helmv2.HelmRelease) { hr.DeletionTimestamp = &metav1.Time{} })},
		},
		"OfAnotherGeneration": {
			reason: "the event tells of what was there before",
			began:  written, sees: []*helmv2.HelmRelease{done}, looks: 1,
			fact: told(edited(func(hr *helmv2.HelmRelease) { hr.Generation = 2 }), 1),
		},
		"LookFailed": {
			reason: "the event asks for another look",
			began:  written, sees: []*helmv2.HelmRelease{done}, fact: told(done, 1), err: errors.New("the API server is away"), looks: 1,
		},
		"StillOpen": {
			reason: "the event has to come back, where something is polled",
			began:  written, sees: []*helmv2.HelmRelease{done}, fact: told(done, 1), err: &stillOpen{tasks: []string{"web"}}, looks: 1,
		},
		"CameBack": {
			reason: "an event that came back is looked at anew",
			began:  written, sees: []*helmv2.HelmRelease{done}, fact: told(done, 2), looks: 1,
		},
		"Expired": {
			reason: "that its time is up nobody but the watcher sees",
			began:  written, sees: []*helmv2.HelmRelease{written}, fact: events.New(rollout, events.ReleaseExpired{}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var looked []wake
				o := newOwn(t.Context(), func(_ context.Context, w wake) error {
					looked = append(looked, w)
					return tc.err
				}, slog.New(slog.DiscardHandler))
				if tc.began != nil {
					o.began(tc.began)
				}
				for _, hr := range tc.sees {
					o.see(hr)
				}
				got := o.answered(t.Context(), tc.fact)
				synctest.Wait()
				if got != tc.want || len(looked) != tc.looks {
					t.Errorf("%s: answered %v, want %v; %d looks, want %d", tc.reason, got, tc.want, len(looked), tc.looks)
				}
				if tc.want && o.answered(t.Context(), tc.fact) {
					t.Error("what has been answered is forgotten")
				}
			})
		})
	}
}

// The look knows what was seen, and an event waits for the look that has begun.
func TestOwnReleaseIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written, done := begunNow()
		var looked wake
		goOn := make(chan struct{})
		o := newOwn(t.Context(), func(_ context.Context, w wake) error {
			looked = w
			<-goOn
			return nil
		}, slog.New(slog.DiscardHandler))
		o.began(written)
		o.see(done)
		answered := make(chan bool, 1)
		go func() { answered <- o.answered(t.Context(), told(done, 1)) }()
		synctest.Wait()
		if len(answered) > 0 {
			t.Error("an event was answered before the look was over")
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if o.answered(gone, told(done, 1)) {
			t.Error("an event was answered whose handler had to give up")
		}
		close(goOn)
		if !<-answered {
			t.Error("the event was not answered by the look")
		}
		want := wake{workflow: wfName, news: []news{{key: execute.Key{Namespace: "target", Name: "web"}, uid: "uid-web", generation: 3}}}
		if diff := cmp.Diff(want, looked, cmp.AllowUnexported(wake{}, news{})); diff != "" {
			t.Errorf("the look (-want +got):\n%s", diff)
		}
	})
}

func TestOwnReleasesOfWorkflowsThatAreOver(t *testing.T) {
	written, _ := begunNow()
	o := newOwn(t.Context(), nil, slog.New(slog.DiscardHandler))
	o.began(written)
	o.keep(map[types.UID]bool{"uid-wf": true})
	if len(o.releases) != 1 {
		t.Error("a release of a running workflow was forgotten")
	}
	o.keep(nil)
	if len(o.releases) != 0 {
		t.Error("a release of a workflow that is over was kept")
	}
}
