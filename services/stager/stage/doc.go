// Package stage makes of one chart the archives that are released on their own:
// one for each enabled first-level subchart, and one for the chart itself. It is
// pure: the same archive, values and names give the same bytes.
//
// # How a chart is split
//
// By muting. A piece is the whole chart in which every template outside the
// piece's own part says nothing when Helm renders it, while all that other
// templates can reach stays: named templates, files included by their path,
// values, files, CRDs. So a piece renders what the whole chart renders
// for that part, and the pieces together render the whole chart, each object once
// (Equivalent checks it for any chart and values).
//
// A template file is muted by moving its body to a partial beside it, a file
// that Helm parses and does not render, under a define that bears the path of the
// original: `include (print $.Template.BasePath "/configmap.yaml") .` finds what
// it found before. The defines of a file that has both stay where they are, because
// where two files define one name it is the order of the files that decides.
//
// The alternative, a guard around the body that asks .Template.Name whether the file
// is being rendered or included, is wrong in a case that occurs: the engine leaves in
// a subchart's values the name of the template that it rendered there last, so a
// parent that includes that one with .Subcharts.<name> would get nothing.
//
// # Which Helm
//
// Version 3. helm-controller renders with version 4, and between the two one thing
// matters here: where a chart has two aliases, Helm 3 shares the subcharts of that
// chart between them and renders those of one alias only. A piece holds each
// first-level alias as a chart of its own, and Render has none of the sharing, so both
// are what Helm 4 makes.
//
// # What a piece can see of the values
//
// The values at its own name, the globals, and what decides which parts of the chart
// are enabled: a part that is not takes its named templates along, and the values that
// others import from it. That is Piece.ValuePaths, and the piece is released with no
// more, so that a change of other values leaves its release alone. It therefore has no
// schema but those of its own part; the chart's own piece, which gets all values, has
// all. Where Helm refuses values, the whole chart with them, the piece of a part that
// they are not about may take them.
//
// # What is not the same
//
//   - Hooks and NOTES run with their piece, not with the whole (see Report).
//   - A subchart's piece is named <chart>-<subchart>, so a template that prints
//     .Template.Name, rather than including by it, prints that.
//   - A template that changes .Values with set for templates of another piece does
//     it in its own piece only.
//   - What is random differs between pieces, as it differs between two renderings; so
//     does what lookup finds, the time, and the release's own history (see Caution).
//   - Where the staging repository holds other bytes under a version, the version
//     gets build metadata (Piece.Tagged), which .Chart.Version of the chart's own
//     templates shows. Helm would not upgrade otherwise: to it, a chart of the same
//     name and version is the same chart.
//
// # Names
//
// The chart's own piece is named like the chart, and its Chart.yaml is the
// original's byte for byte. The piece of a subchart is <chart>-<subchart>, where
// subchart is the alias if there is one. The version is always the chart's.
package stage
