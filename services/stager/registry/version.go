package registry

import (
	"slices"

	"github.com/Masterminds/semver/v3"
)

// version of a chart, as much of it as we need.
type version struct {
	Name, Version string
	// URL of the archive, as the index has it.
	URL string
	// Digest as the index has it; empty where it has none.
	Digest string
}

// weight of a version in memory, in bytes, about.
func (v *version) weight() int64 {
	return int64(4*16 + len(v.Version) + len(v.URL) + len(v.Digest) + 3*8)
}

// newestFirst leaves out what is no version, as Helm does.
func newestFirst(versions []version) []version {
	type parsed struct {
		version
		semver *semver.Version
	}
	all := make([]parsed, 0, len(versions))
	for _, v := range versions {
		if s, err := semver.NewVersion(v.Version); err == nil {
			all = append(all, parsed{v, s})
		}
	}
	slices.SortStableFunc(all, func(a, b parsed) int { return b.semver.Compare(a.semver) })
	sorted := make([]version, len(all))
	for i, p := range all {
		sorted[i] = p.version
	}
	return sorted
}

// pick the version that is written so, else the first, of those that are there newest
// first, that the constraint allows. Pre-releases are allowed only where the constraint
// names one. It is what Helm does with an index (IndexFile.Get) and with tags
// (GetTagMatchingVersionOrConstraint).
func pick(versions []version, constraint string) (version, bool) {
	if constraint == "" {
		constraint = "*"
	}
	c, err := semver.NewConstraint(constraint)
	if err != nil {
		return version{}, false
	}
	for _, v := range versions {
		if v.Version == constraint {
			return v, true
		}
	}
	for _, v := range versions {
		if s, err := semver.NewVersion(v.Version); err == nil && c.Check(s) {
			return v, true
		}
	}
	return version{}, false
}

// anything tells whether a constraint is none.
func anything(constraint string) bool { return constraint == "" || constraint == "*" }
