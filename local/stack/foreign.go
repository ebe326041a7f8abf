package stack

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

var deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}

// refuseControllers keeps away from a cluster that has controllers of its own: two of
// a kind would undo each other's work on every release in it.
func refuseControllers(ctx context.Context, client dynamic.Interface) error {
	list, err := client.Resource(deployments).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing the Deployments of the cluster: %w", err)
	}
	for _, d := range list.Items {
		if slices.Contains([]string{"helm-controller", "source-controller", "workflow-controller"}, d.GetName()) {
			return fmt.Errorf("the cluster has a %s of its own, in namespace %s: a second one, on this machine, would fight with it; use a cluster without Flux and Argo Workflows", d.GetName(), d.GetNamespace())
		}
	}
	return nil
}
