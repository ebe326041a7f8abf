package past_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orkestra.dev/cli/internal/past"
	"orkestra.dev/cli/internal/tree"
	"orkestra.dev/pkg/events"
)

var begun = time.Date(2026, 5, 4, 3, 2, 0, 0, time.UTC)

// story is told second by second.
type story struct {
	facts   []events.Fact
	rollout events.Rollout
}

func (s *story) say(p events.Payload) {
	f := events.New(s.rollout, p)
	f.Time = begun.Add(time.Duration(len(s.facts)) * time.Second)
	s.facts = append(s.facts, f)
}

func (s *story) node(kind events.WorkflowType, task string) events.NodeRef {
	return events.NodeRef{WorkflowRef: events.WorkflowRef{Workflow: "shop-" + string(kind), WorkflowType: kind}, Node: task, Task: task}
}

func (s *story) ref(task, name string) events.ReleaseRef {
	return events.ReleaseRef{Workflow: "shop-forward", Namespace: "shop", Name: name, Task: task}
}

func staged(version string) events.ChartsStaged {
	return events.ChartsStaged{Applications: []events.StagedApplication{{
		Name: "web", Chart: "web", Version: version,
		Pieces: []events.StagedPiece{{Subchart: "db", SubchartVersion: "0.1.0"}, {}},
	}}}
}

// told is the tree in a line for each node.
func told(t *testing.T, s *story, second int) string {
	t.Helper()
	got, ok := past.Of(s.facts, begun.Add(time.Duration(second)*time.Second))
	if !ok {
		return "none"
	}
	var lines []string
	var walk func(tree.Node, string)
	walk = func(n tree.Node, indent string) {
		lines = append(lines, strings.TrimRight(indent+n.Name+" "+string(n.Phase)+" "+n.Message, " "))
		for _, c := range n.Children {
			walk(c, indent+" ")
		}
	}
	walk(got.Node, "")
	return strings.Join(lines, "\n")
}

func TestAGroupThroughItsLife(t *testing.T) {
	s := &story{rollout: events.Rollout{Group: "shop", UID: "u", Generation: 1}}
	steps := []struct {
		say  events.Payload
		want string
	}{
		{events.GroupDesired{Origin: events.Origin{Manager: "kubectl", User: "ann"}}, "shop Working waiting for its charts to be staged"},
		{staged("1.0.0"), "shop Working its charts are staged\n web Pending\n  web Pending web 1.0.0\n  web-db Pending db 0.1.0"},
		{events.WorkflowSubmitted{WorkflowRef: s.node(events.WorkflowForward, "").WorkflowRef, Releases: 2}, "shop Working forward, 2 releases\n web Pending\n  web Pending web 1.0.0\n  web-db Pending db 0.1.0"},
		{events.NodeStarted{NodeRef: s.node(events.WorkflowForward, "web.web-db")}, "shop Working forward, 2 releases\n web Installing\n  web Pending web 1.0.0\n  web-db Installing"},
		{events.ReleaseReady{ReleaseRef: s.ref("web.web-db", "web-db"), Chart: "web-db", Version: "1.0.0"}, "shop Working forward, 2 releases\n web Pending\n  web Pending web 1.0.0\n  web-db Ready web-db 1.0.0"},
		{events.NodeSucceeded{NodeRef: s.node(events.WorkflowForward, "web.web-db")}, "shop Working forward, 2 releases\n web Pending\n  web Pending web 1.0.0\n  web-db Ready web-db 1.0.0"},
		{events.NodeStarted{NodeRef: s.node(events.WorkflowForward, "web.web-web.install")}, "shop Working forward, 2 releases\n web Installing\n  web Installing\n  web-db Ready web-db 1.0.0"},
		{events.ReleaseReady{ReleaseRef: s.ref("web.web-web", "web"), Chart: "web", Version: "1.0.0"}, "shop Working forward, 2 releases\n web Ready\n  web Ready web 1.0.0\n  web-db Ready web-db 1.0.0"},
		{events.RolloutSucceeded{WorkflowRef: s.node(events.WorkflowForward, "").WorkflowRef}, "shop Ready rolled out\n web Ready\n  web Ready web 1.0.0\n  web-db Ready web-db 1.0.0"},
	}
	for i, step := range steps {
		s.say(step.say)
		if diff := cmp.Diff(step.want, told(t, s, i)); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", s.facts[i].EventID(), diff)
		}
	}
	s.rollout.Generation = 2
	for _, p := range []events.Payload{
		events.GroupDesired{}, staged("1.1.0"), events.NodeStarted{NodeRef: s.node(events.WorkflowForward, "web.web-web")},
		events.ReleaseFailed{ReleaseRef: s.ref("web.web-web", "web"), Reason: "UpgradeFailed", Message: "no"},
		events.RolloutFailed{WorkflowRef: s.node(events.WorkflowForward, "").WorkflowRef, Reason: "Failed", Message: "web failed"},
		events.GroupDeleting{}, events.NodeStarted{NodeRef: s.node(events.WorkflowReverse, "web.web-web")},
		events.ReleaseDeleted{ReleaseRef: s.ref("web.web-web", "web")}, events.GroupDeleted{},
	} {
		s.say(p)
	}
	for second, want := range map[int]string{
		8:  "shop Ready rolled out\n web Ready\n  web Ready web 1.0.0\n  web-db Ready web-db 1.0.0",
		11: "shop Working its charts are staged\n web Upgrading\n  web Upgrading\n  web-db Ready web-db 1.0.0",
		13: "shop Failed Failed: web failed\n web Failed\n  web Failed UpgradeFailed: no\n  web-db Ready web-db 1.0.0",
		15: "shop Deleting waiting for its removal to be begun\n web Deleting\n  web Deleting\n  web-db Ready web-db 1.0.0",
		16: "shop Deleting waiting for its removal to be begun\n web Ready\n  web Gone\n  web-db Ready web-db 1.0.0",
		17: "none", -1: "none",
	} {
		if diff := cmp.Diff(want, told(t, s, second)); diff != "" {
			t.Errorf("second %d (-want +got):\n%s", second, diff)
		}
	}
	got, _ := past.Of(s.facts, begun.Add(3*time.Second))
	if got.Origin.User != "ann" || got.Took != 3*time.Second || got.Cut || got.Rollout.Generation != 1 || got.Children[0].Children[1].Took != 0 {
		t.Errorf("the rollout of then: %+v", got)
	}

	// A group of the same name that is made anew is another one.
	s.rollout = events.Rollout{Group: "shop", UID: "other", Generation: 1}
	s.say(events.GroupRejected{Reason: "InvalidSpec", Message: "a -> b -> a"})
	if got := told(t, s, 99); got != "shop Failed InvalidSpec: a -> b -> a" {
		t.Errorf("the new group: %s", got)
	}
	if got, ok := past.Of(s.facts[4:6], begun.Add(time.Minute)); !ok || !got.Cut || got.Children[0].Children[0].Phase != tree.Ready {
		t.Errorf("facts that begin in the middle: %+v, %t", got, ok)
	}
}

// What is said late of an older rollout does not turn the newer one.
func TestLateNews(t *testing.T) {
	s := &story{rollout: events.Rollout{Group: "shop", UID: "u", Generation: 1}}
	s.say(events.GroupDesired{})
	s.rollout.Generation = 2
	s.say(events.GroupDesired{})
	s.rollout.Generation = 1
	s.say(events.RolloutFailed{WorkflowRef: s.node(events.WorkflowForward, "").WorkflowRef, Reason: "Stopped"})
	if got, _ := past.Of(s.facts, begun.Add(time.Minute)); got.Phase != tree.Working || got.Rollout.Generation != 2 {
		t.Errorf("got %+v", got)
	}
}
