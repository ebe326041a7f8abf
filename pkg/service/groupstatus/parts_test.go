package groupstatus

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// The parts of a chart's status, as the two services write it.
var (
	since    = metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	staged   = v1alpha1.ChartStatus{Chart: "redis", Version: "1.2.3", Staged: true}
	refused  = v1alpha1.ChartStatus{Chart: "redis", Version: "1.2.4", Error: "no such chart"}
	released = v1alpha1.ChartStatus{
		Phase: v1alpha1.ReleaseReady, LastTransitionTime: &since,
		Conditions: []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, LastTransitionTime: since}},
	}
	pending = v1alpha1.ChartStatus{Phase: v1alpha1.ReleasePending}
)

type subcharts = map[string]v1alpha1.ChartStatus

func app(name string, c v1alpha1.ChartStatus, parts ...subcharts) v1alpha1.ApplicationStatus {
	out := v1alpha1.ApplicationStatus{Name: name, ChartStatus: c}
	for _, part := range parts {
		out.Subcharts = part
	}
	return out
}

func TestEachHasItsPartOfAnApplication(t *testing.T) {
	type applications = []v1alpha1.ApplicationStatus
	for name, tc := range map[string]struct {
		have applications
		s    Status
		want applications
	}{
		"who has no part leaves them alone": {
			have: applications{app("a0", staged)}, s: Status{},
		},
		"the first word": {
			s: Status{Charts: applications{app("a1", staged), app("a0", staged)}}, want: applications{app("a0", staged), app("a1", staged)},
		},
		"releases join charts": {
			have: applications{app("a0", staged, subcharts{"db": staged})},
			s:    Status{Releases: applications{app("a0", released, subcharts{"db": pending, "web": released})}},
			want: applications{app("a0", both(staged, released), subcharts{"db": both(staged, pending), "web": released})},
		},
		"charts join releases": {
			have: applications{app("a0", both(staged, released)), app("a1", both(staged, pending))},
			s:    Status{Charts: applications{app("a0", refused)}},
			want: applications{app("a0", both(refused, released)), app("a1", pending)},
		},
		"a part that is given up": {
			have: applications{app("a0", both(staged, released), subcharts{"db": staged, "web": released})},
			s:    Status{Charts: applications{}},
			want: applications{app("a0", released, subcharts{"web": released})},
		},
		"all that there was is given up": {
			have: applications{app("a0", staged)}, s: Status{Charts: applications{}}, want: applications{},
		},
		"what the group has no more": {
			have: applications{app("a0", both(staged, released)), app("gone", both(staged, released))},
			s:    Status{Releases: applications{app("a0", released)}},
			want: applications{app("a0", both(staged, released))},
		},
	} {
		g := large(2)
		g.Status.Applications = tc.have
		if diff := cmp.Diff(tc.want, joined(g, tc.s)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Who writes a part to a group that another has written meanwhile would undo that.
func TestNoPartIsLost(t *testing.T) {
	g := large(1)
	c, read := served(t, g)
	stale, err := read(t.Context(), events.Rollout{})
	if err != nil {
		t.Fatal(err)
	}
	charts := Status{Charts: []v1alpha1.ApplicationStatus{app("a0", staged)}}
	releases := Status{Releases: []v1alpha1.ApplicationStatus{app("a0", released)}}
	if _, err := Apply(t.Context(), c, "watcher", stale, releases); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(t.Context(), c, "stager", stale, charts); !apierrors.IsConflict(err) {
		t.Fatalf("a part was written to a group that is no longer as it was read: %v", err)
	}
	reads := 0
	err = ApplyCurrent(t.Context(), c, "stager", stale, charts, func(ctx context.Context, r events.Rollout) (*v1alpha1.ApplicationGroup, error) {
		reads++
		return read(ctx, r)
	})
	if err != nil || reads != 1 {
		t.Fatalf("%v, read %d times", err, reads)
	}
	now, err := read(t.Context(), events.Rollout{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]v1alpha1.ApplicationStatus{app("a0", both(staged, released))}, now.Status.Applications, equalTimes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for what, answer := range map[string]error{"superseded": events.Superseded("another generation"), "unread": fmt.Errorf("no answer")} {
		err := ApplyCurrent(t.Context(), c, "stager", stale, Status{Charts: []v1alpha1.ApplicationStatus{app("a0", refused)}},
			func(context.Context, events.Rollout) (*v1alpha1.ApplicationGroup, error) { return nil, answer })
		if (err == nil) != events.IsSuperseded(answer) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

var equalTimes = cmp.Comparer(func(a, b metav1.Time) bool { return a.Equal(&b) })

func TestApplicationsAreComparedWhole(t *testing.T) {
	g := large(1)
	g.Status.Applications = []v1alpha1.ApplicationStatus{app("a0", both(staged, released))}
	owns := func(fields string) {
		g.ManagedFields = []metav1.ManagedFieldsEntry{{
			Manager: "me", Operation: metav1.ManagedFieldsOperationApply, Subresource: "status",
			FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:applications":` + fields + `}}`),
		}}
	}
	for what, tc := range map[string]struct {
		owned string
		s     Status
		want  bool
	}{
		"the stager has said it":   {`{}`, Status{Charts: []v1alpha1.ApplicationStatus{app("a0", staged)}}, true},
		"the watcher has said it":  {`{}`, Status{Releases: []v1alpha1.ApplicationStatus{app("a0", released)}}, true},
		"another version is news":  {`{}`, Status{Charts: []v1alpha1.ApplicationStatus{app("a0", refused)}}, false},
		"a part that is given up":  {`{}`, Status{Releases: []v1alpha1.ApplicationStatus{}}, false},
		"as an earlier CRD had it": {`{"k:{\"name\":\"a0\"}":{".":{},"f:name":{},"f:phase":{}}}`, Status{Releases: []v1alpha1.ApplicationStatus{app("a0", released)}}, false},
		"who has no part any more": {`{}`, Status{}, false},
	} {
		owns(tc.owned)
		if got := said(t, g, desired(g, tc.s), "me"); got != tc.want {
			t.Errorf("%s: got %v", what, got)
		}
	}
	if !cmp.Equal(g.Status.Applications, desired(g, Status{Charts: []v1alpha1.ApplicationStatus{app("a0", staged)}}).Applications, equalTimes) {
		t.Error("what is joined is not what is there")
	}
}
