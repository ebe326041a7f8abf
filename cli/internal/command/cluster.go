package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v3/workflow/packer"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/history"
	"orkestra.dev/cli/internal/tree"
	"orkestra.dev/services/compiler/compile"
)

// fieldOwner is who the API server says has written what the command line wrote.
const fieldOwner = "orkestra-cli"

// opener makes the client of a cluster.
type opener func(*rest.Config) (client.Client, error)

// open a client that writes under our name.
func open(config *rest.Config) (client.Client, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	out, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reaching the Kubernetes API server at %s: %w", config.Host, err)
	}
	return client.WithFieldOwner(out, fieldOwner), nil
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, wfv1.AddToScheme, helmv2.AddToScheme, appsv1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building the scheme: %w", err)
		}
	}
	return scheme, nil
}

// cluster is how to reach a cluster: the flags of kubectl, and where Orkestra is in it.
type cluster struct {
	// program is the command line's name, for what it advises.
	program   string
	open      opener
	rules     *clientcmd.ClientConfigLoadingRules
	overrides clientcmd.ConfigOverrides
	namespace string
}

func (c *cluster) add(fs *pflag.FlagSet) {
	c.rules = clientcmd.NewDefaultClientConfigLoadingRules()
	fs.StringVar(&c.rules.ExplicitPath, "kubeconfig", "", "kubeconfig to use (default: KUBECONFIG, else ~/.kube/config)")
	fs.StringVarP(&c.namespace, "namespace", "n", compile.DefaultNamespace, "namespace of Orkestra's Workflows and revisions")
	names := clientcmd.RecommendedConfigOverrideFlags("")
	// A group is in no namespace; --namespace is Orkestra's.
	names.ContextOverrideFlags.Namespace.LongName = ""
	names.ContextOverrideFlags.Namespace.ShortName = ""
	clientcmd.BindOverrideFlags(&c.overrides, fs, names)
}

func (c *cluster) client() (client.Client, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	return c.open(config)
}

func (c *cluster) config() (*rest.Config, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(c.rules, &c.overrides).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("loading the kubeconfig: %w", err)
	}
	config.UserAgent = "orkestra"
	return config, nil
}

// group of that name, and the client that it was read with.
func (c *cluster) group(ctx context.Context, name string) (client.Client, *v1alpha1.ApplicationGroup, error) {
	from, err := c.client()
	if err != nil {
		return nil, nil, err
	}
	group, err := readGroup(ctx, from, name)
	return from, group, err
}

// living is a group that is not being deleted.
func (c *cluster) living(ctx context.Context, name string) (client.Client, *v1alpha1.ApplicationGroup, error) {
	from, group, err := c.group(ctx, name)
	if err == nil && !group.DeletionTimestamp.IsZero() {
		err = fmt.Errorf("group %s is being deleted: see how far it is with '%s status %s'", name, c.program, name)
	}
	return from, group, err
}

func readGroup(ctx context.Context, from client.Reader, name string) (*v1alpha1.ApplicationGroup, error) {
	group := &v1alpha1.ApplicationGroup{}
	err := from.Get(ctx, client.ObjectKey{Name: name}, group)
	switch {
	case err == nil:
		return group, nil
	case apierrors.IsNotFound(err):
		return nil, &missingError{text: fmt.Sprintf("there is no group %s%s", name, near(ctx, from, name)), err: err}
	default:
		return nil, unread("reading group "+name, err)
	}
}

// unread is why groups could not be read while doing something.
func unread(doing string, err error) error {
	if apimeta.IsNoMatchError(err) {
		return fmt.Errorf("the cluster knows no %s: is Orkestra installed in it? See 'kubectl config current-context'", v1alpha1.Kind)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// missingError says that a group is not there, in more helpful words than the API's.
type missingError struct {
	text string
	err  error
}

func (e *missingError) Error() string { return e.text }
func (e *missingError) Unwrap() error { return e.err }

// mostNames is how many groups are named to who asked for one that is not there.
const mostNames = 10

// near says which group may have been meant. Who may not list groups is told nothing.
func near(ctx context.Context, from client.Reader, name string) string {
	var all v1alpha1.ApplicationGroupList
	if err := from.List(ctx, &all); err != nil {
		return ""
	}
	names := make([]string, len(all.Items))
	for i := range all.Items {
		names[i] = all.Items[i].Name
	}
	slices.Sort(names)
	if like := similar(name, names); len(like) > 0 {
		return "; did you mean " + strings.Join(like, " or ") + "?"
	}
	switch {
	case len(names) == 0:
		return ": there are no groups in this cluster; see 'kubectl config current-context'"
	case len(names) > mostNames:
		return fmt.Sprintf("; there are %s, and %d more", strings.Join(names[:mostNames], ", "), len(names)-mostNames)
	default:
		return "; there are " + strings.Join(names, ", ")
	}
}

// similar names, by the measure by which Cobra finds a mistyped command.
func similar(name string, names []string) []string {
	all := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, n := range names {
		all.AddCommand(&cobra.Command{Use: n, Run: func(*cobra.Command, []string) {}})
	}
	return all.SuggestionsFor(name)
}

// state of a group. Who may not see releases or Workflows, or has none, sees the rest.
func (c *cluster) state(ctx context.Context, from client.Reader, name string) (tree.State, error) {
	var s tree.State
	var err error
	if s.Group, err = readGroup(ctx, from, name); err != nil {
		return s, err
	}
	if s.Releases, err = releasesOf(ctx, from, name); errors.Is(err, errHidden) {
		s.Hidden, err = true, nil
	}
	if err != nil {
		return s, err
	}
	s.Workflows, err = c.workflows(ctx, from, name)
	return s, err
}

// errHidden says that the user may not see what was asked for.
var errHidden = errors.New("may not be seen")

func releasesOf(ctx context.Context, from client.Reader, name string) ([]helmv2.HelmRelease, error) {
	var releases helmv2.HelmReleaseList
	err := from.List(ctx, &releases, client.MatchingLabels{v1alpha1.LabelOwner: name})
	switch {
	case apierrors.IsForbidden(err), apimeta.IsNoMatchError(err):
		return nil, errHidden
	case err != nil:
		return nil, fmt.Errorf("listing the releases of group %s: %w", name, err)
	}
	return releases.Items, nil
}

// workflows of a group; none for who may not see them.
func (c *cluster) workflows(ctx context.Context, from client.Reader, name string) ([]wfv1.Workflow, error) {
	var workflows wfv1.WorkflowList
	err := from.List(ctx, &workflows, client.MatchingLabels{v1alpha1.LabelOwner: name}, client.InNamespace(c.namespace))
	switch {
	case apierrors.IsForbidden(err), apimeta.IsNoMatchError(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("listing the workflows of group %s: %w", name, err)
	}
	for i := range workflows.Items {
		if err := packer.DecompressWorkflow(&workflows.Items[i]); err != nil {
			return nil, fmt.Errorf("reading the nodes of workflow %s: %w", workflows.Items[i].Name, err)
		}
	}
	return workflows.Items, nil
}

// revisions of a group, the newest first.
func (c *cluster) revisions(ctx context.Context, from client.Reader, group *v1alpha1.ApplicationGroup) ([]history.Revision, error) {
	var objects appsv1.ControllerRevisionList
	err := from.List(ctx, &objects, client.MatchingLabels{v1alpha1.LabelOwner: group.Name}, client.InNamespace(c.namespace))
	if err != nil {
		return nil, fmt.Errorf("listing the revisions of group %s: %w", group.Name, err)
	}
	workflows, err := c.workflows(ctx, from, group.Name)
	if err != nil {
		return nil, err
	}
	return history.Of(group, objects.Items, workflows)
}

// patch writes what has changed of a group since it was read as before.
func (c *cluster) patch(ctx context.Context, to client.Client, group, before *v1alpha1.ApplicationGroup) error {
	return c.written(group.Name, to.Patch(ctx, group, client.MergeFrom(before)))
}

// written says what became of a write to a group, and what to do where it failed.
func (c *cluster) written(name string, err error) error {
	switch {
	case apierrors.IsConflict(err):
		return fmt.Errorf("group %s was changed by somebody else in the meantime: look at it again, with '%s diff %s' say, and repeat", name, c.program, name)
	case apierrors.IsNotFound(err):
		return &missingError{text: fmt.Sprintf("group %s was deleted in the meantime", name), err: err}
	case err != nil:
		return fmt.Errorf("writing group %s: %w", name, err)
	}
	return nil
}
