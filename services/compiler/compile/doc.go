// Package compile turns an ApplicationGroup and its staged charts into an Argo
// Workflow and the plan that the executors follow.
//
// It is a pure core: values in, values out. It reads no clock, no environment and
// no cluster, and the same input, in any order, gives the same bytes: so a Workflow
// that is compiled twice is the same Workflow.
//
// A workflow has the three levels of the original: a DAG of applications; for each
// application a DAG of releases, the application's own chart after its subcharts;
// and for each release that goes through several executors a DAG of those.
package compile
