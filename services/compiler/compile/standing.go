package compile

import (
	"cmp"
	"math/big"
	"slices"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/graph"
)

// inventoryByName is the releases that exist.
func inventoryByName(live []helmv2.HelmRelease) map[types.NamespacedName]*helmv2.HelmRelease {
	out := make(map[types.NamespacedName]*helmv2.HelmRelease, len(live))
	for i := range live {
		out[types.NamespacedName{Namespace: live[i].Namespace, Name: live[i].Name}] = &live[i]
	}
	return out
}

// standing are the tasks of releases, by application, that are as they are wanted, and of
// which to write the HelmRelease is all that there is to do.
func (c *compiler) standing(objects releases, live []helmv2.HelmRelease) map[string]map[string]bool {
	have := inventoryByName(live)
	out := map[string]map[string]bool{}
	for app, tasks := range objects {
		out[app] = map[string]bool{}
		for task, r := range tasks {
			key := types.NamespacedName{Namespace: r.object.Namespace, Name: r.object.Name}
			if releasesOnly(r.app) && asWanted(r.object, have[key], c.rollout.UID) {
				out[app][task] = true
			}
		}
	}
	return out
}

// releasesOnly says whether the releases of an application have no steps but to write their
// HelmRelease: whether others are to be run again is not seen from that.
func releasesOnly(app *v1alpha1.Application) bool {
	return !gated(*app) && !slices.ContainsFunc(app.Spec.Workflow, func(e v1alpha1.Executor) bool {
		return cmp.Or(e.Type, v1alpha1.ExecutorHelmRelease) != v1alpha1.ExecutorHelmRelease
	})
}

// without is the graph of the releases that are left when those are left out, and how many
// were. What comes before a release that is left out comes before what is behind it, and an
// application of which nothing is left is left out too.
func (g *GroupGraph) without(out map[string]map[string]bool) (rest *GroupGraph, left int, err error) {
	rest = &GroupGraph{Group: g.Group, Type: g.Type, Applications: []ApplicationGraph{}}
	gone := map[string]bool{}
	for _, app := range g.Applications {
		kept := app
		if kept.Releases, err = contract(app.Releases, out[app.Name], func(r *ReleaseGraph) (string, *[]string) { return r.Task, &r.Dependencies }); err != nil {
			return nil, 0, err
		}
		left += len(app.Releases) - len(kept.Releases)
		if len(kept.Releases) == 0 {
			gone[app.Name] = true
		}
		rest.Applications = append(rest.Applications, kept)
	}
	rest.Applications, err = contract(rest.Applications, gone, func(a *ApplicationGraph) (string, *[]string) { return a.Name, &a.Dependencies })
	return rest, left, err
}

// contract leaves nodes out of a DAG. a -> b -> c without b is a -> c, unless c waits for a
// by another way already: of a ladder every other release of which is left out, each would
// else wait for all that come before it.
func contract[T any](nodes []T, out map[string]bool, of func(*T) (name string, dependencies *[]string)) ([]T, error) {
	if len(out) == 0 {
		return nodes, nil
	}
	order, err := orderOf(nodes, of)
	if err != nil {
		return nil, err
	}
	number, byName := make(map[string]uint, len(nodes)), make(map[string]*T, len(nodes))
	for i, name := range order {
		number[name] = uint(i)
	}
	kept := slices.Clone(nodes)
	for i := range kept {
		name, _ := of(&kept[i])
		byName[name] = &kept[i]
	}
	// For each node, what it waits for that is kept: those next to it, and all of them as bits.
	next, all := make(map[string][]string, len(nodes)), make(map[string]*big.Int, len(nodes))
	for _, name := range order {
		_, dependencies := of(byName[name])
		near, bits := []string{}, new(big.Int)
		var behind []string
		for _, d := range *dependencies {
			if out[d] {
				behind = append(behind, next[d]...)
				continue
			}
			near = append(near, d)
			bits.Or(bits, all[d])
			bits.SetBit(bits, int(number[d]), 1)
		}
		// The last in order first: those before it that it waits for need not be said.
		slices.SortFunc(behind, func(a, b string) int { return cmp.Compare(number[b], number[a]) })
		for _, d := range behind {
			if bits.Bit(int(number[d])) == 0 {
				near = append(near, d)
				bits.Or(bits, all[d])
				bits.SetBit(bits, int(number[d]), 1)
			}
		}
		next[name], all[name] = near, bits
		*dependencies = set(near)
	}
	return slices.DeleteFunc(kept, func(n T) bool { name, _ := of(&n); return out[name] }), nil
}

// orderOf is the nodes by name, each after its dependencies.
func orderOf[T any](nodes []T, of func(*T) (name string, dependencies *[]string)) ([]string, error) {
	in := make([]graph.Node, len(nodes))
	for i := range nodes {
		name, dependencies := of(&nodes[i])
		in[i] = graph.Node{Name: name, Dependencies: *dependencies}
	}
	g, err := graph.New(in)
	if err != nil {
		return nil, ungenerable("ordering the releases: %w", err)
	}
	return g.Order(), nil
}
