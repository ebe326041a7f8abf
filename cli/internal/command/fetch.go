package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/manifest"
	"orkestra.dev/services/stager/registry"
	"orkestra.dev/services/stager/stage"
)

// parallelFetches is how many charts are fetched at a time.
const parallelFetches = 8

// secretReader finds the data of a Secret that an application names; where it is for
// credentials, url is the repository that they will be sent to.
type secretReader func(ctx context.Context, key types.NamespacedName, url string) (map[string][]byte, error)

// inFiles reads Secrets whose manifests are among the files.
func inFiles(set *manifest.Set) secretReader {
	return func(_ context.Context, key types.NamespacedName, _ string) (map[string][]byte, error) {
		if data, ok := set.Secrets[key]; ok {
			return data, nil
		}
		return nil, errors.New("give the Secret's manifest with -f too")
	}
}

// refsOf the charts of a group, with the credentials that it asks for. One Secret is
// read once: known remembers what it holds.
func refsOf(ctx context.Context, group *v1alpha1.ApplicationGroup, read secretReader, known map[types.NamespacedName]*registry.Credentials) ([]registry.Ref, error) {
	refs := make([]registry.Ref, len(group.Spec.Applications))
	for i := range group.Spec.Applications {
		app := &group.Spec.Applications[i]
		refs[i] = registry.RefOf(app)
		ref := app.Spec.Chart.AuthSecretRef
		if ref == nil {
			continue
		}
		key := types.NamespacedName{Namespace: cmp.Or(ref.Namespace, v1alpha1.DefaultAuthSecretNamespace), Name: ref.Name}
		data, err := read(ctx, key, refs[i].URL)
		if err != nil {
			return nil, fmt.Errorf("application %s asks for the credentials in Secret %s: %w", app.Name, key, err)
		}
		if known[key] == nil {
			if known[key], err = registry.CredentialsOf(data); err != nil {
				return nil, fmt.Errorf("reading Secret %s of application %s: %w", key, app.Name, err)
			}
		}
		refs[i].Credentials = known[key]
	}
	return refs, nil
}

// fetch the charts of a group from the registries that it names, and split them. What
// the charts do not bear out of the spec is written to the command's error stream.
func fetch(cmd *cobra.Command, set *manifest.Set, group *v1alpha1.ApplicationGroup) ([]stage.Application, error) {
	refs, err := refsOf(cmd.Context(), group, inFiles(set), map[types.NamespacedName]*registry.Credentials{})
	if err != nil {
		return nil, err
	}
	// Who runs a command line may reach what it can reach.
	from := registry.New(registry.Options{AllowPrivate: true})
	archives := make([][]byte, len(refs))
	var errs []error
	for i, f := range registry.FetchAll(cmd.Context(), from, refs, parallelFetches) {
		archives[i] = f.Archive
		if f.Err != nil {
			errs = append(errs, fmt.Errorf("application %s: %w", group.Spec.Applications[i].Name, f.Err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	values, err := set.Values(cmd.Context(), group)
	if err != nil {
		return nil, err
	}
	apps, err := stage.SplitGroup(group, archives, values)
	if err != nil {
		return nil, err
	}
	for _, app := range apps {
		for _, w := range app.Warnings {
			cmd.PrintErrf("warning: application %s: %s\n", app.Name, w)
		}
	}
	return apps, nil
}
