package stage

// Split is a chart taken apart.
type Split struct {
	// Chart, Version and Digest (sha256:<hex>) of the chart as it was handed in.
	Chart, Version, Digest string
	// Pieces: subcharts sorted by name, the chart's own piece last. A chart that
	// is not split is one piece, whose archive is the one that was handed in.
	Pieces []Piece
	// Warnings are about what was asked for and is not borne out by the chart,
	// sorted.
	Warnings []string
}

// Piece is one archive to be staged and released.
type Piece struct {
	// Subchart is the name, or the alias, of the first-level dependency; empty for
	// the chart's own piece.
	Subchart string
	// SubchartVersion is the version of the subchart itself.
	SubchartVersion string
	// Chart and Version as in the archive's Chart.yaml.
	Chart, Version string
	// ValuePaths are the dotted paths into the values of all that the piece can see of
	// them, sorted, none below another: rendered with what lies at or below them, and
	// with what stands in their way and is no map, the piece renders what it does with
	// all values. Empty is everything.
	ValuePaths []string
	// Digest of Archive, sha256:<hex>.
	Digest string
	// Archive is a gzipped tar. It is shared: do not write to it.
	Archive []byte
}
