// Package execute decides what an executor does next for the nodes of a workflow:
// which HelmReleases are written or deleted, which Jobs are run, what is waited
// for, and which nodes are settled and how. Values in, values out: what was seen
// goes in, with the time, and what is to be done comes out.
//
// Decide is about one release and serves whoever runs one, such as an executor
// pod. Next is about all nodes that wait in a workflow.
package execute
