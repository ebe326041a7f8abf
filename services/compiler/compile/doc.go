// Package compile turns an ApplicationGroup and its staged charts into an Argo
// Workflow and the plan that the executors follow.
//
// It is a pure core: values in, values out. It reads no clock, no environment and
// no cluster, and the same input, in any order, gives the same bytes: so a Workflow
// that is compiled twice is the same Workflow.
//
// A workflow has the three levels of the original: a DAG of applications; for each
// application a DAG of releases, the application's own chart after its subcharts
// unless parentPlacement says otherwise; and for each release that goes through
// several executors a DAG of those.
//
// # Steps
//
// A step of type helmrelease, job or wait is a suspended node that the executor service
// settles. With executor: pod a helmrelease step is a pod of our own image, and those of
// type custom and keptn always are pods. A pod is given what images for the original
// know, behind the user's own arguments:
//
//	--spec <base64 of the HelmRelease's JSON> --action install|delete
//	[--data <base64 of params.data>]                          custom
//	[--configmap-name <name> --configmap-namespace <ns>]      keptn, of params.configMapRef
//	--timeout <release.timeout, 5m> --interval 1s
//
// The container of a custom step is taken whole. What it mounts is in params.volumes, a
// list of volumes as a pod has them, none of them a part of the node. A container that
// says nothing else runs as user 65532, with no capability and no way to more.
//
// The first step of a release with pods is "prepare": the executor service makes the
// namespaces and the Secret with values, so that neither is in the workflow. Where only
// pods install the release, "ready" looks at its readyExpr behind them; where only
// images of others delete it, "clean" removes what Helm leaves.
//
// Jobs and waits are not part of a reverse. An application that has left the spec is
// deleted by one step of the executor service, whatever its steps were.
package compile
