package chart

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chartutil"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// What a cluster has elsewhere is where the values say: DNS for all who ask, and what else our services are to reach. Whether
// the policies let through what is needed, and nothing else, is seen on a real node.
func TestPoliciesFollowTheCluster(t *testing.T) {
	values, err := chartutil.ReadValues([]byte("networkPolicies: {dnsPorts: [5353], egress: [{ports: [{port: 4318}]}]}"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	reach := map[string][]string{}
	for _, u := range all {
		if u.GetKind() != "NetworkPolicy" {
			continue
		}
		var p networkingv1.NetworkPolicy
		object(t, all, u.GetKind(), u.GetName(), &p)
		for _, rule := range p.Spec.Egress {
			for _, port := range rule.Ports {
				if port.Port.Type == intstr.Int && slices.Contains([]int32{53, 5353, 4318}, port.Port.IntVal) {
					reach[p.Name] = append(reach[p.Name], port.Port.String())
				}
			}
		}
	}
	want := map[string][]string{"orkestra-nats": {"5353", "5353"}}
	for _, service := range strings.Fields("intake stager compiler executor watcher topology") {
		want["orkestra-"+service] = []string{"5353", "5353", "4318"}
	}
	if diff := cmp.Diff(want, reach); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
}
