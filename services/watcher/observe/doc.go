// Package observe says what Workflows and HelmReleases tell: as facts, and
// summed up as the status of their group. Values in, values out; the time is
// among them.
package observe
