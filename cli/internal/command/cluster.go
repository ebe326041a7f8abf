package command

import (
	"context"
	"fmt"
	"slices"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v3/workflow/packer"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/tree"
	"orkestra.dev/services/compiler/compile"
)

// cluster is how to reach a cluster: the flags of kubectl, and where Orkestra is in it.
type cluster struct {
	rules     *clientcmd.ClientConfigLoadingRules
	overrides clientcmd.ConfigOverrides
	namespace string
}

func (c *cluster) add(fs *pflag.FlagSet) {
	c.rules = clientcmd.NewDefaultClientConfigLoadingRules()
	fs.StringVar(&c.rules.ExplicitPath, "kubeconfig", "", "kubeconfig to use (default: KUBECONFIG, else ~/.kube/config)")
	fs.StringVarP(&c.namespace, "namespace", "n", compile.DefaultNamespace, "namespace of Orkestra's Workflows")
	names := clientcmd.RecommendedConfigOverrideFlags("")
	// A group is in no namespace; --namespace is Orkestra's.
	names.ContextOverrideFlags.Namespace.LongName = ""
	names.ContextOverrideFlags.Namespace.ShortName = ""
	clientcmd.BindOverrideFlags(&c.overrides, fs, names)
}

func (c *cluster) client() (client.Client, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(c.rules, &c.overrides).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("loading the kubeconfig: %w", err)
	}
	config.UserAgent = "orkestra"
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, wfv1.AddToScheme, helmv2.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building the scheme: %w", err)
		}
	}
	out, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reaching the Kubernetes API server at %s: %w", config.Host, err)
	}
	return out, nil
}

// state of a group. Who may not see Workflows, or has none, sees the rest.
func (c *cluster) state(ctx context.Context, from client.Reader, name string) (tree.State, error) {
	s := tree.State{Group: &v1alpha1.ApplicationGroup{}}
	if err := from.Get(ctx, client.ObjectKey{Name: name}, s.Group); err != nil {
		return s, fmt.Errorf("reading group %s: %w", name, err)
	}
	owned := client.MatchingLabels{v1alpha1.LabelOwner: name}
	var releases helmv2.HelmReleaseList
	if err := from.List(ctx, &releases, owned); err != nil {
		return s, fmt.Errorf("listing the releases of group %s: %w", name, err)
	}
	s.Releases = releases.Items
	var workflows wfv1.WorkflowList
	err := from.List(ctx, &workflows, owned, client.InNamespace(c.namespace))
	switch {
	case apierrors.IsForbidden(err), apimeta.IsNoMatchError(err):
	case err != nil:
		return s, fmt.Errorf("listing the workflows of group %s: %w", name, err)
	}
	s.Workflows = workflows.Items
	for i := range s.Workflows {
		if err := packer.DecompressWorkflow(&s.Workflows[i]); err != nil {
			return s, fmt.Errorf("reading the nodes of workflow %s: %w", s.Workflows[i].Name, err)
		}
	}
	s.Workflows = slices.Clip(s.Workflows)
	return s, nil
}
