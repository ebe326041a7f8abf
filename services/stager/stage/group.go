package stage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// Application is one application of a group, split.
type Application struct {
	// Name of the application in the spec.
	Name string
	Split
}

// SplitApplication splits the chart of an application as its spec asks. The values
// are those that its releases will have, with what valuesFrom refers to.
func SplitApplication(app *v1alpha1.Application, c *Chart, values map[string]any) (*Application, error) {
	names := make([]string, 0, len(app.Spec.Subcharts))
	for _, s := range app.Spec.Subcharts {
		names = append(names, s.Name)
	}
	s, err := c.Split(values, names)
	if err != nil {
		return nil, err
	}
	return &Application{Name: app.Name, Split: *s}, nil
}

// SplitGroup splits the charts of all applications of a group. Archives are in the
// order of the spec; values are those of SplitApplication, by application, and of one
// that is not among them those that its spec has. It is what the stager does, without
// a registry, a staging repository or a cluster. The error names the application.
func SplitGroup(group *v1alpha1.ApplicationGroup, archives [][]byte, values map[string]map[string]any) ([]Application, error) {
	if len(archives) != len(group.Spec.Applications) {
		return nil, fmt.Errorf("group %s has %d applications; %d archives were given", group.Name, len(group.Spec.Applications), len(archives))
	}
	var apps []Application
	for i := range group.Spec.Applications {
		app := &group.Spec.Applications[i]
		a, err := splitOne(app, archives[i], values)
		if err != nil {
			return nil, fmt.Errorf("application %s: %w", app.Name, err)
		}
		apps = append(apps, *a)
	}
	return apps, nil
}

func splitOne(app *v1alpha1.Application, archive []byte, values map[string]map[string]any) (*Application, error) {
	effective, ok := values[app.Name]
	if !ok {
		var err error
		if effective, err = Values(app.Spec.Release.Values); err != nil {
			return nil, err
		}
	}
	c, err := Open(archive)
	if err != nil {
		return nil, err
	}
	return SplitApplication(app, c, effective)
}

// Staged is what the stager says of a group when all of it is staged: to render
// what the compiler would make of it, nothing need be.
func Staged(group *v1alpha1.ApplicationGroup, apps []Application) events.ChartsStaged {
	var staged events.ChartsStaged
	for _, a := range apps {
		out := events.StagedApplication{
			Name: a.Name, Chart: a.Chart, Version: a.Version, Digest: a.Digest, Warnings: a.Warnings,
		}
		for _, p := range a.Pieces {
			out.Pieces = append(out.Pieces, events.StagedPiece{
				Subchart: p.Subchart, SubchartVersion: p.SubchartVersion,
				Chart: p.Chart, Version: p.Version, Digest: p.Digest,
				HelmChart: HelmChartName(group, p), ValuePaths: p.ValuePaths,
			})
		}
		staged.Applications = append(staged.Applications, out)
	}
	return staged
}

// HelmChartName is the name of the HelmChart object of a piece: <group>-<chart>-<hash>.
// Applications that install the same bytes share it: source-controller fetches them once.
// The hash is of all that the object stands for, because two groups may come out the
// same (a-b of c, a of b-c); of the group's UID, so that what a group of that name left
// behind is not taken for ours; and of the digest, so that other contents are another object.
func HelmChartName(group *v1alpha1.ApplicationGroup, p Piece) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{group.Name, string(group.UID), p.Chart, p.Version, p.Digest}, "\x00")))
	hash := "-" + hex.EncodeToString(sum[:])[:10]
	name := v1alpha1.DNSName(group.Name) + "-" + v1alpha1.DNSName(p.Chart)
	return v1alpha1.Shorten(name, v1alpha1.MaxLabel-len(hash)) + hash
}
