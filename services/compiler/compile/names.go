package compile

import (
	"slices"

	"orkestra.dev/api/v1alpha1"
)

// maxArgoName is Argo's limit on the name of a template and of a task.
const maxArgoName = 128

// awkward is put before a name that Argo cannot have as it is.
const awkward = "n-"

// keywords of the language in which Argo evaluates what a task depends on: a task of
// that name cannot be depended on.
var keywords = map[string]bool{
	"and": true, "or": true, "not": true, "in": true, "let": true, "if": true, "else": true, "nil": true, "true": true, "false": true,
	"matches": true, "contains": true,
}

// names gives the things of one namespace of a workflow, its templates or the tasks of
// one DAG, names that Argo accepts and that no two of them share.
type names struct {
	byKey map[string]string
	taken map[string]bool
}

func newNames() *names { return &names{byKey: map[string]string{}, taken: map[string]bool{}} }

// name the thing of that key: as it likes where it can be.
func (n *names) name(key, like string) string {
	name := v1alpha1.Shorten(like, maxArgoName)
	if !plain(name) {
		name = v1alpha1.Shorten(awkward+like, maxArgoName)
	}
	for n.taken[name] {
		name = v1alpha1.Shorten(awkward+name, maxArgoName)
	}
	n.byKey[key], n.taken[name] = name, true
	return name
}

// of is the name that the thing of that key was given.
func (n *names) of(key string) string { return n.byKey[key] }

// plain says whether Argo can have the name: one that begins with a digit cannot be
// part of a DAG with dependencies.
func plain(name string) bool {
	return name != "" && (name[0] < '0' || name[0] > '9') && !keywords[name]
}

// plainFirst is the names in the order in which to name them, so that a name that is
// fine as it is never has to give way to one that is not.
func plainFirst[T any](things []T, of func(T) string) []string {
	out := make([]string, len(things))
	for i, t := range things {
		out[i] = of(t)
	}
	slices.SortFunc(out, func(a, b string) int {
		switch pa, pb := plain(a), plain(b); {
		case pa && !pb:
			return -1
		case pb && !pa:
			return 1
		case a < b:
			return -1
		case a > b:
			return 1
		default:
			return 0
		}
	})
	return out
}
