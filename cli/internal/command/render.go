package command

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/compiler/compile"
	"orkestra.dev/services/stager/stage"
)

// Where the files of a group go, in the folder that the user names.
const (
	workflowFile   = "workflow.yaml"
	releasesFolder = "releases"
	sourcesFolder  = "sources"
	chartsFolder   = "charts"
	valuesFolder   = "values"
)

// unknownUID stands for the UID that the API server would give.
const unknownUID = "00000000-0000-0000-0000-000000000000"

func newRender(name string) *cobra.Command {
	var from files
	var out string
	var staging stage.Staging
	var force bool
	var options compile.Options
	cmd := &cobra.Command{
		Use:   "render -f FILE",
		Short: "Show what would be installed, without a cluster",
		Long: `Render does what the stager and the compiler do, without a cluster: it fetches the
charts from the registries that the group names, splits them, and makes the Workflow
and the HelmReleases. With --out it writes

  workflow.yaml          the Workflow that Argo would run
  releases/<name>.yaml   each HelmRelease
  values/<name>.yaml     the Secret with its values, where the HelmRelease refers to one
  sources/<name>.yaml    the HelmRepository and the HelmCharts that they refer to
  charts/*.tgz           the staged charts

Where the files hold several groups each has a folder of its own. Without --out the
Workflow, the sources and the HelmReleases go to the standard output.

A registry that asks for credentials gets those of the Secret that the group names,
where its manifest is among the files; so are the ConfigMaps and Secrets that valuesFrom
refers to.`,
		Example: examples(name, `
orkestra render -f group.yaml --out rendered

# What does a change of the group change?
orkestra render -f old.yaml > old; orkestra render -f new.yaml > new; diff old new

# What would Helm render of a piece?
orkestra render -f group.yaml --out rendered
helm template bookinfo rendered/charts/bookinfo-reviews-v1.tgz`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			set, err := from.valid(cmd)
			if err != nil {
				return err
			}
			if out != "" && !force {
				if err := empty(out); err != nil {
					return err
				}
			}
			for _, d := range set.Groups {
				apps, err := fetch(cmd, set, d.Group)
				if err != nil {
					return fmt.Errorf("group %s: %w", d.Group.Name, err)
				}
				values, err := set.Values(cmd.Context(), d.Group)
				if err != nil {
					return fmt.Errorf("group %s: %w", d.Group.Name, err)
				}
				rendered, err := render(d.Group, apps, values, staging, options)
				if err != nil {
					return fmt.Errorf("group %s: %w", d.Group.Name, err)
				}
				if out == "" {
					err = rendered.print(cmd)
				} else {
					dir := out
					if len(set.Groups) > 1 {
						dir = filepath.Join(out, d.Group.Name)
					}
					err = rendered.write(dir)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	from.add(cmd)
	fs := cmd.Flags()
	fs.StringVar(&out, "out", "", "folder to write to; it must be empty or not be there")
	fs.BoolVar(&force, "force", false, "write into a folder that is not empty, over what is there")
	fs.StringVar(&staging.URL, "staging-url", "http://chartmuseum."+compile.DefaultNamespace+".svc:8080", "URL of the staging repository, for the HelmRepository")
	fs.StringVar(&staging.Secret, "staging-secret", "", "Secret with the password of the staging repository, for the HelmRepository (default: none)")
	fs.StringVarP(&options.Namespace, "namespace", "n", compile.DefaultNamespace, "namespace of Orkestra's Workflows and HelmCharts")
	fs.Int64Var(&options.Parallelism, "parallelism", compile.DefaultParallelism, "releases that are in work at a time")
	return cmd
}

// empty says whether there is nothing in the folder that could be mixed up with what
// is written.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking into folder %s: %w", dir, err)
	case len(entries) > 0:
		return fmt.Errorf("folder %s is not empty: choose another, or write over it with --force", dir)
	}
	return nil
}

// file to write: an object, or the bytes of an archive.
type file struct {
	path string
	data []byte
	mode os.FileMode
}

// rendering is the files of a group, in the order in which to read them.
type rendering []file

// render a group whose charts are split; values are those of its applications, by name.
func render(group *v1alpha1.ApplicationGroup, apps []stage.Application, values map[string]map[string]any, staging stage.Staging, options compile.Options) (rendering, error) {
	rollout := events.Rollout{Group: group.Name, UID: unknownUID, Generation: max(group.Generation, 1)}
	staged := stage.Staged(group, apps).Applications
	p, err := compile.Forward(compile.Input{Group: group, Staged: staged, Values: values, Rollout: rollout, Options: options})
	if err != nil {
		return nil, err
	}
	var out rendering
	add := func(path string, mode os.FileMode, object any) error {
		data, err := yaml.Marshal(object)
		if err != nil {
			return fmt.Errorf("encoding %s: %w", path, err)
		}
		out = append(out, file{path, data, mode})
		return nil
	}
	errs := []error{add(workflowFile, 0o644, p.Workflow)}
	for _, s := range sources(group, apps, staging, p.Workflow.Namespace) {
		applied, err := stage.Unstructured(s)
		errs = append(errs, err)
		if err == nil {
			errs = append(errs, add(filepath.Join(sourcesFolder, s.GetName()+".yaml"), 0o644, applied.Object))
		}
	}
	seen := map[string]bool{}
	for _, n := range p.Nodes {
		// A release may go through several executors, and be several nodes.
		key := n.Release.Namespace + "/" + n.Release.Name
		if seen[key] {
			continue
		}
		name := n.Release.Name
		if slices.ContainsFunc(out, func(f file) bool { return f.path == filepath.Join(releasesFolder, name+".yaml") }) {
			name = n.Release.Namespace + "." + name // the same name in another namespace
		}
		seen[key] = true
		// Values may be secret.
		errs = append(errs, add(filepath.Join(releasesFolder, name+".yaml"), 0o600, n.Release))
		if n.Values != nil {
			errs = append(errs, add(filepath.Join(valuesFolder, name+".yaml"), 0o600, n.Values))
		}
	}
	for _, app := range apps {
		for _, piece := range app.Pieces {
			f := file{filepath.Join(chartsFolder, piece.Chart+"-"+piece.Version+".tgz"), piece.Archive, 0o644}
			same := slices.IndexFunc(out, func(o file) bool { return o.path == f.path })
			switch {
			case same < 0:
				out = append(out, f)
			case !bytes.Equal(out[same].data, f.data):
				// Two registries have a chart of that name and version.
				f.path = filepath.Join(chartsFolder, app.Name, filepath.Base(f.path))
				out = append(out, f)
			}
		}
	}
	return out, errors.Join(errs...)
}

// sources are the HelmRepository of the group, and the HelmCharts that its releases
// refer to.
func sources(group *v1alpha1.ApplicationGroup, apps []stage.Application, staging stage.Staging, namespace string) []client.Object {
	out := []client.Object{stage.HelmRepository(group, namespace, staging)}
	there := map[string]bool{}
	for _, app := range apps {
		for _, piece := range app.Pieces {
			chart := stage.HelmChart(group, namespace, piece)
			// Applications that install the same share it.
			if !there[chart.Name] {
				there[chart.Name] = true
				out = append(out, chart)
			}
		}
	}
	return out
}

func (r rendering) print(cmd *cobra.Command) error {
	for _, f := range r {
		if filepath.Ext(f.path) != ".yaml" {
			continue
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "---\n# %s\n%s", filepath.ToSlash(f.path), f.data); err != nil {
			return err
		}
	}
	return nil
}

func (r rendering) write(dir string) error {
	for _, f := range r {
		path := filepath.Join(dir, f.path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
		if err := os.WriteFile(path, f.data, f.mode); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	return nil
}
