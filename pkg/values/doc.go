// Package values makes the values of a release of all that its spec names: the
// ConfigMaps and Secrets of valuesFrom, and the values in the spec itself.
//
// It merges as helm-controller does (github.com/fluxcd/pkg/chartutil), without what
// that needs of Helm, so that a group means what the same fields of a HelmRelease do.
// What it says of a reference that is of no use names the reference, and never repeats
// anything that it holds.
package values
