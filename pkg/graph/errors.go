package graph

import (
	"cmp"
	"fmt"
	"strings"
)

// DuplicateError says that two nodes have one name.
type DuplicateError struct{ Name string }

// Error names the node.
func (e *DuplicateError) Error() string { return fmt.Sprintf("%q is there more than once", e.Name) }

// UnknownError says that a node depends on what is not there.
type UnknownError struct{ Node, Dependency string }

// Error names the node and its dependency.
func (e *UnknownError) Error() string {
	return fmt.Sprintf("%q depends on %q, which is not there", e.Node, e.Dependency)
}

func (e *UnknownError) compare(other *UnknownError) int {
	return cmp.Or(cmp.Compare(e.Node, other.Node), cmp.Compare(e.Dependency, other.Dependency))
}

// CycleError says that nodes wait for each other.
type CycleError struct {
	// Path begins and ends with the same node, and each depends on the next.
	Path []string
}

// Error spells the cycle out: a -> b -> a.
func (e *CycleError) Error() string { return "cycle " + strings.Join(e.Path, " -> ") }
