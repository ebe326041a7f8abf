package v1alpha1

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"orkestra.dev/pkg/graph"
)

// validateDAG checks the names of one list and what they wait for. The kind says
// in a message what an entry of the list is.
func validateDAG(path *field.Path, kind string, dags []DAG) field.ErrorList {
	var errs field.ErrorList
	nodes := make([]graph.Node, 0, len(dags))
	names := make([]string, 0, len(dags))
	byDNS := map[string]int{} // DNS name -> the first that has it
	for i, d := range dags {
		nodes = append(nodes, graph.Node{Name: d.Name, Dependencies: d.Dependencies})
		names = append(names, d.Name)
		at := path.Index(i).Child("name")
		if bad := validateName(at, d.Name); len(bad) > 0 {
			errs = append(errs, bad...)
			continue
		}
		first, taken := byDNS[DNSName(d.Name)]
		switch {
		case !taken:
			byDNS[DNSName(d.Name)] = i
		case dags[first].Name == d.Name:
			errs = append(errs, duplicate(at, d.Name, fmt.Sprintf("%s has the same name: rename one of them", path.Index(first))))
		default:
			errs = append(errs, duplicate(at, d.Name, fmt.Sprintf("%s is %q, and both become %q in the names of objects: rename one of them",
				path.Index(first), dags[first].Name, DNSName(d.Name))))
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)

	_, err := graph.New(nodes)
	for _, problem := range unjoin(err) {
		var (
			unknown *graph.UnknownError
			cycle   *graph.CycleError
		)
		switch {
		case errors.As(problem, &unknown):
			errs = append(errs, field.Invalid(dependencyPath(path, dags, unknown), unknown.Dependency,
				fmt.Sprintf("is not an %s: add it, or remove the dependency; there are %s", kind, quoted(names))))
		case errors.As(problem, &cycle):
			errs = append(errs, field.Invalid(path, strings.Join(cycle.Path, " -> "),
				"each of these waits for the next, so that none can start: remove one of the dependencies"))
		}
		// A duplicate has been said above, with the entry that it is a duplicate of.
	}
	return errs
}

// dependencyPath finds the field that an unknown dependency is in.
func dependencyPath(path *field.Path, dags []DAG, unknown *graph.UnknownError) *field.Path {
	for i, d := range dags {
		if j := slices.Index(d.Dependencies, unknown.Dependency); d.Name == unknown.Node && j >= 0 {
			return path.Index(i).Child("dependencies").Index(j)
		}
	}
	return path
}

// unjoin takes apart what errors.Join has joined.
func unjoin(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return nil
}

// validateObjectNames refuses two parts of a group that would write one object:
// releases with one name in one namespace, and tasks with one name in one
// application. It knows the subcharts that the spec names; whoever knows the charts
// has to ask again. Entries of one list that are the same to DNS have been refused
// before, and are not looked at.
func validateObjectNames(path *field.Path, applications []Application) field.ErrorList {
	type object struct{ namespace, name string }
	var (
		errs     field.ErrorList
		releases = map[object]*field.Path{}
		seen     = map[string]bool{"": true}
	)
	for i, a := range applications {
		if seen[DNSName(a.Name)] {
			continue
		}
		seen[DNSName(a.Name)] = true
		tasks := map[string]*field.Path{}
		claim := func(part *field.Path, subchart string) {
			task := TaskName(a.Name, subchart)
			if first, taken := tasks[task]; taken {
				errs = append(errs, duplicate(part.Child("name"), subchart,
					fmt.Sprintf("becomes the task %q of the workflow, and so does %s: rename one of them", task, first)))
			}
			tasks[task] = part
			release := object{a.Spec.Release.TargetNamespace, ReleaseName(a.Name, subchart)}
			if first, taken := releases[release]; taken {
				errs = append(errs, duplicate(part.Child("name"), cmp.Or(subchart, a.Name),
					fmt.Sprintf("becomes the HelmRelease %q in namespace %q, and so does %s: rename one of them, or give one application another targetNamespace",
						release.name, release.namespace, first)))
			}
			releases[release] = part
		}
		claim(path.Index(i), "")
		seenHere := map[string]bool{"": true}
		for j, s := range a.Spec.Subcharts {
			if !seenHere[DNSName(s.Name)] {
				seenHere[DNSName(s.Name)] = true
				claim(path.Index(i).Child("spec", "subcharts").Index(j), s.Name)
			}
		}
	}
	return errs
}

func duplicate(path *field.Path, value, detail string) *field.Error {
	e := field.Duplicate(path, value)
	e.Detail = detail
	return e
}
