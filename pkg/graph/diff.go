package graph

import (
	"maps"
	"slices"
)

// Changes are what two sets of named things differ by. Each list is sorted.
type Changes struct {
	Added, Removed, Changed, Unchanged []string
}

// Diff compares two sets of names, each with the digest of what the name stands
// for. What has the same name and another digest has changed.
func Diff(before, after map[string]string) Changes {
	var c Changes
	for _, name := range slices.Sorted(maps.Keys(after)) {
		switch was, ok := before[name]; {
		case !ok:
			c.Added = append(c.Added, name)
		case was != after[name]:
			c.Changed = append(c.Changed, name)
		default:
			c.Unchanged = append(c.Unchanged, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[name]; !ok {
			c.Removed = append(c.Removed, name)
		}
	}
	return c
}
