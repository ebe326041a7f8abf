package realnode

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// BookinfoAnswers is about the demo's group when it is ready: its pods run, and its front page answers through its Service.
func (c *Cluster) BookinfoAnswers(t *testing.T) {
	t.Helper()
	var deployments appsv1.DeploymentList
	if err := c.Client.List(t.Context(), &deployments, client.InNamespace("bookinfo")); err != nil {
		t.Fatal(err)
	}
	ready := map[string]int32{}
	for _, d := range deployments.Items {
		ready[d.Name] = d.Status.ReadyReplicas
	}
	if diff := cmp.Diff(map[string]int32{"details": 1, "productpage": 1, "ratings": 2, "reviews": 2}, ready); diff != "" {
		t.Errorf("ready pods (-want +got):\n%s", diff)
	}
	for service, port := range map[client.ObjectKey]int{{Namespace: "bookinfo", Name: "productpage"}: 9080, {Namespace: "gateway", Name: "gateway"}: 80} {
		var s corev1.Service
		if err := c.Client.Get(t.Context(), service, &s); err != nil {
			t.Fatal(err)
		}
		Poll(t, service.String()+" to answer", func(ctx context.Context) error {
			return Answers(ctx, fmt.Sprintf("http://%s:%d/", s.Spec.ClusterIP, port), service.Name+" on "+service.Name)
		})
	}
}
