package stage_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/stage"
)

func TestSources(t *testing.T) {
	group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "1-2"}}
	piece := stage.Piece{Chart: "web-db", Version: "1.0.0", Digest: "sha256:01"}
	name := stage.HelmChartName(group, piece)
	for promise, c := range map[string]struct {
		object runtime.Object
		want   string
	}{
		"a group has one repository, of its own name": {stage.HelmRepository(group, "orkestra", stage.Staging{URL: "http://museum/"}), `
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata:
  finalizers: [finalizers.fluxcd.io]
  labels: {orkestra.azure.microsoft.com/heritage: orkestra, orkestra.azure.microsoft.com/owner: shop}
  name: shop
  namespace: orkestra
  ownerReferences: [{apiVersion: orkestra.azure.microsoft.com/v1alpha1, kind: ApplicationGroup, name: shop, uid: 1-2}]
spec: {interval: 24h0m0s, url: http://museum/shop}
`},
		"where the repository has a password it names the Secret": {stage.HelmRepository(group, "orkestra", stage.Staging{URL: "http://museum", Secret: "museum"}), `
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata:
  finalizers: [finalizers.fluxcd.io]
  labels: {orkestra.azure.microsoft.com/heritage: orkestra, orkestra.azure.microsoft.com/owner: shop}
  name: shop
  namespace: orkestra
  ownerReferences: [{apiVersion: orkestra.azure.microsoft.com/v1alpha1, kind: ApplicationGroup, name: shop, uid: 1-2}]
spec: {interval: 24h0m0s, secretRef: {name: museum}, url: http://museum/shop}
`},
		"a piece has a chart that refers to it": {stage.HelmChart(group, "orkestra", piece), `
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmChart
metadata:
  finalizers: [finalizers.fluxcd.io]
  labels: {orkestra.azure.microsoft.com/heritage: orkestra, orkestra.azure.microsoft.com/owner: shop}
  name: ` + name + `
  namespace: orkestra
  ownerReferences: [{apiVersion: orkestra.azure.microsoft.com/v1alpha1, kind: ApplicationGroup, name: shop, uid: 1-2}]
spec: {chart: web-db, interval: 24h0m0s, reconcileStrategy: ChartVersion, sourceRef: {kind: HelmRepository, name: shop}, version: 1.0.0}
`},
	} {
		got, err := stage.Unstructured(c.object)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]any{}
		if err := yaml.Unmarshal([]byte(c.want), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Object); diff != "" {
			t.Errorf("%s, and what is applied is that and no more (-want +got):\n%s", promise, diff)
		}
	}
	group.UID = ""
	if alone := stage.HelmChart(group, "orkestra", piece); len(alone.OwnerReferences) > 0 {
		t.Errorf("without a cluster there is no owner: %v", alone.OwnerReferences)
	}
}
