module orkestra.dev/examples

go 1.26.0

require (
	orkestra.dev/local v0.0.0
	orkestra.dev/services/stager v0.0.0
	sigs.k8s.io/controller-runtime v0.25.2
	sigs.k8s.io/yaml v1.6.0
)

replace (
	orkestra.dev/api => ../api
	orkestra.dev/local => ../local
	orkestra.dev/pkg/events => ../pkg/events
	orkestra.dev/pkg/graph => ../pkg/graph
	orkestra.dev/pkg/service => ../pkg/service
	orkestra.dev/services/stager => ../services/stager
)
