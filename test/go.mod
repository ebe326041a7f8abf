module orkestra.dev/test

go 1.26.0

require (
	github.com/argoproj/argo-workflows/v3 v3.7.18
	github.com/fluxcd/helm-controller/api v1.6.5
	github.com/google/go-cmp v0.7.0
	k8s.io/api v0.37.2
	k8s.io/apimachinery v0.37.2
	k8s.io/client-go v0.37.2
	orkestra.dev/api v0.0.0
	orkestra.dev/examples v0.0.0
	orkestra.dev/local v0.0.0
	orkestra.dev/pkg/events v0.0.0
	orkestra.dev/services/stager v0.0.0
	sigs.k8s.io/controller-runtime v0.25.2
	sigs.k8s.io/yaml v1.6.0
)

replace (
	orkestra.dev/api => ../api
	orkestra.dev/examples => ../examples
	orkestra.dev/local => ../local
	orkestra.dev/pkg/events => ../pkg/events
	orkestra.dev/pkg/graph => ../pkg/graph
	orkestra.dev/pkg/service => ../pkg/service
	orkestra.dev/services/stager => ../services/stager
)
