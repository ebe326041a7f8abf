// Package realnode is what the tests share that run on a real kubelet: the cluster, and groups that are rolled out there.
package realnode

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
)

// Patience with real containers, on a machine with better things to do.
const Patience = 5 * time.Minute

// Cluster is a stack with a real node.
type Cluster struct {
	Stack  *stack.Stack
	Config *rest.Config
	Client client.Client
}

// Up brings up a stack; what an earlier run left of it is of no use.
func Up(ctx context.Context, o stack.Options) (*Cluster, error) {
	ctrl.SetLogger(logr.Discard()) // what fails here fails a test
	old, err := stack.Open(o)
	if err != nil {
		return nil, err
	}
	if err := old.Down(ctx, true); err != nil {
		return nil, fmt.Errorf("taking down an earlier stack: %w", err)
	}
	s, err := stack.Up(ctx, o)
	if err != nil {
		return nil, err
	}
	return Reach(s)
}

// Reach a stack that is up.
func Reach(s *stack.Stack) (*Cluster, error) {
	config, err := s.RESTConfig()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, helmv2.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	return &Cluster{Stack: s, Config: config, Client: c}, err
}

// Down takes the stack away, and is an error where something of its node is left.
func (c *Cluster) Down() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Stack.Down(ctx, true); err != nil {
		return fmt.Errorf("taking down the stack: %w", err)
	}
	if err := stack.NodeLeft(c.Stack.Dir); err != nil {
		return fmt.Errorf("the node was not cleaned up: %w", err)
	}
	return nil
}

// Poll looks until check is content, and fails with what it said last.
func Poll(t *testing.T, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), Patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, Patience, err)
		case <-tick.C:
		}
	}
}

// Create a group.
func (c *Cluster) Create(t *testing.T, manifest []byte) *v1alpha1.ApplicationGroup {
	t.Helper()
	g := &v1alpha1.ApplicationGroup{}
	if err := yaml.UnmarshalStrict(manifest, g); err != nil {
		t.Fatal(err)
	}
	if err := c.Client.Create(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	return g
}

// Await a group that is ready.
func (c *Cluster) Await(t *testing.T, g *v1alpha1.ApplicationGroup) {
	t.Helper()
	Poll(t, "group "+g.Name+" to be ready", func(ctx context.Context) error {
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(g), g); err != nil {
			return err
		}
		if !Ready(g) {
			return fmt.Errorf("conditions %+v", g.Status.Conditions)
		}
		return nil
	})
}

// Ready tells whether a group is.
func Ready(g *v1alpha1.ApplicationGroup) bool {
	return apimeta.IsStatusConditionPresentAndEqual(g.Status.Conditions, v1alpha1.ConditionReady, metav1.ConditionTrue)
}

// RollOut applies a group, and waits until it is ready.
func (c *Cluster) RollOut(t *testing.T, manifest []byte) *v1alpha1.ApplicationGroup {
	t.Helper()
	g := c.Create(t, manifest)
	c.Await(t, g)
	return g
}

// Remove deletes a group, and waits until it and its releases are gone.
func (c *Cluster) Remove(t *testing.T, g *v1alpha1.ApplicationGroup) {
	t.Helper()
	if err := c.Client.Delete(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	Poll(t, "group "+g.Name+" to go", func(ctx context.Context) error {
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(g), g); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there (%w): %+v", err, g.Status.Conditions)
		}
		return nil
	})
	if n := len(c.Releases(t, g.Name)); n > 0 {
		t.Errorf("%d releases of group %s are left", n, g.Name)
	}
}

// Releases of a group.
func (c *Cluster) Releases(t *testing.T, group string) []helmv2.HelmRelease {
	t.Helper()
	var list helmv2.HelmReleaseList
	if err := c.Client.List(t.Context(), &list, client.MatchingLabels{v1alpha1.LabelOwner: group}); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// Answers asks a URL, and is an error unless the answer begins with what is wanted.
func Answers(ctx context.Context, url, want string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), want) {
		return fmt.Errorf("%s: %q, want %q", resp.Status, body, want)
	}
	return nil
}
