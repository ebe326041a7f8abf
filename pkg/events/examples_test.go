package events_test

import "orkestra.dev/pkg/events"

var rollout = events.Rollout{
	Group:       "book.info",
	UID:         "6d1f3c2a-98a7-4a0e-8f5e-0d9a7b1c2d3e",
	Generation:  3,
	RequestedAt: "2026-01-02T03:04:05Z",
}

// examples has one payload of each type, with every field set.
var examples = func() []events.Payload {
	workflow := events.WorkflowRef{Workflow: "bookinfo-3-forward", WorkflowUID: "w-uid", WorkflowType: events.WorkflowForward}
	node := events.NodeRef{WorkflowRef: workflow, Node: "bookinfo-3-forward-1234", Task: "bookinfo.ratings"}
	release := events.ReleaseRef{
		Workflow: "bookinfo-3-forward", Namespace: "bookinfo", Name: "bookinfo-ratings",
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
}()
