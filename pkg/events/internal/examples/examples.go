// Package examples has an event of each type of the contract, for its documents and its
// tests.
package examples

import (
	"time"

	"orkestra.dev/pkg/events"
)

// Rollout that the examples are of.
var Rollout = events.Rollout{
	Group:       "book.info",
	UID:         "6d1f3c2a-98a7-4a0e-8f5e-0d9a7b1c2d3e",
	Generation:  3,
	RequestedAt: "2026-01-02T03:04:05Z",
}

// Fact is an example as it was said: of Rollout, unless the payload is Standalone.
func Fact(p events.Payload) events.Fact {
	f := events.New(Rollout, p)
	f.CausationID = events.New(Rollout, events.GroupDesired{}).EventID()
	if _, ok := p.(events.Standalone); ok {
		f.Rollout, f.CausationID = events.Rollout{}, ""
	}
	f.Time = time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
	f.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	return f
}

// Payloads are one of each type, with every field set.
func Payloads() []events.Payload {
	workflow := events.WorkflowRef{Workflow: "book-info-forward-g3-5d41402a", WorkflowUID: "w-uid", WorkflowType: events.WorkflowForward}
	node := events.NodeRef{WorkflowRef: workflow, Node: "book-info-forward-g3-5d41402a-1234", Task: "bookinfo.ratings"}
	release := events.ReleaseRef{
		Workflow: "book-info-forward-g3-5d41402a", Namespace: "bookinfo", Name: "bookinfo-ratings",
		ReleaseUID: "r-uid", ReleaseGeneration: 2, Task: "bookinfo.ratings",
	}
	origin := events.Origin{Manager: "kubectl-client-side-apply", User: "ann@example.com", Event: "webhook.received/r-uid/72d3162e-cc78-11e3-81ab-4c9367dc0958"}
	return []events.Payload{
		events.GroupDesired{Origin: origin},
		events.GroupRejected{Reason: "CyclicDependency", Message: "a -> b -> a"},
		events.GroupSuspended{Origin: origin},
		events.GroupDeleting{Origin: origin},
		events.GroupDeleted{},
		events.ChartsStaged{Applications: []events.StagedApplication{{
			Name: "bookinfo", Chart: "bookinfo", Version: "1.0.0", Digest: "sha256:00",
			Pieces: []events.StagedPiece{
				{Subchart: "ratings", SubchartVersion: "0.1.0", Chart: "bookinfo-ratings", Version: "1.0.0", Digest: "sha256:01", HelmChart: "b-01", ValuePaths: []string{"global", "ratings"}},
				{Chart: "bookinfo", Version: "1.0.0", Digest: "sha256:02", HelmChart: "b-02"},
			},
			Warnings: []string{"subchart reviews is disabled by the values"},
		}}},
		events.ChartsFailed{Application: "bookinfo", Chart: "bookinfo", Version: "1.0.0", URL: "https://charts.example.com", Reason: "NotFound", Message: "no such version"},
		events.WorkflowSubmitted{WorkflowRef: workflow, Releases: 4},
		events.WorkflowRejected{WorkflowType: events.WorkflowRollback, Reason: "NoRevision", Message: "there is nothing to go back to"},
		events.NodeStarted{NodeRef: node},
		events.NodeSucceeded{NodeRef: node},
		events.NodeFailed{NodeRef: node, Message: "timed out"},
		events.ReleaseReady{ReleaseRef: release, Chart: "bookinfo-ratings", Version: "1.0.0"},
		events.ReleaseFailed{ReleaseRef: release, Reason: "InstallFailed", Message: "no such image"},
		events.ReleaseExpired{ReleaseRef: release, TimeoutSeconds: 300},
		events.ReleaseDeleted{ReleaseRef: release},
		events.RolloutUnchanged{Releases: 4},
		events.RolloutSucceeded{WorkflowRef: workflow},
		events.RolloutFailed{WorkflowRef: workflow, Reason: "Failed", Message: "ratings failed", Task: "bookinfo.ratings"},
		events.WebhookReceived{
			Namespace: "orkestra", Receiver: "ci.github", ReceiverUID: "r-uid", ReceiverGeneration: 1, ReceiverType: "github",
			Delivery: "72d3162e-cc78-11e3-81ab-4c9367dc0958", Event: "package", Reconcile: true, DryRun: true,
			Charts:  []events.ChartVersion{{Registry: "ghcr.io/example", Name: "bookinfo", Version: "1.1.0", Digest: "sha256:03"}},
			Deploys: []events.DeployRequest{{Group: "book.info", Application: "bookinfo", Version: "1.1.0", ValuesSecret: "delivery-03"}},
		},
		events.ChartPushed{Tenant: "book.info", Chart: "bookinfo-ratings", Version: "1.0.0", Digest: "sha256:01"},
	}
}
