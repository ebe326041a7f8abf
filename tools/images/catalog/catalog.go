// Package catalog says which images there are, and what is in each.
package catalog

import (
	"fmt"
	"slices"
	"strings"
)

// Image is one program and how it runs in a container.
type Image struct {
	// Name is that of the files, and, where Reference is empty, the last part of the reference.
	Name string
	// Set that the image belongs to: one of the Sets.
	Set string
	// Reference in full, with its tag, of an image that goes by a name that is not ours. Empty: <registry>/<Name>:<tag>.
	Reference string
	// Module is the folder of the Go module, from the root of the checkout, and Package what is built in it.
	Module, Package string
	// Binary is the program's name in /bin.
	Binary string
	// Upstream is the module whose version in go.mod is the image's tag. Empty: the tag is the one that is asked for.
	Upstream string
	// VersionSymbol is the variable that tells the program its version. Empty: it tells none.
	VersionSymbol string
	// Missing is a file that is not in the module's archive, from its root, and From the one that stands in for it.
	Missing, From string
	// Args that the program is started with by default.
	Args []string
	// Ports that it listens on by default.
	Ports []int
	// Description in a sentence.
	Description string
}

// Sets in which images can be asked for.
const (
	Ours    = "orkestra" // our own services and command line
	Servers = "servers"  // what Orkestra needs, from upstream
	Node    = "node"     // what a node needs before it can run anything
	Demo    = "demo"     // stand-ins for the images of the example charts
	Test    = "test"     // what only tests run
)

// Services that have an image each, named orkestra-<service>.
var services = []string{"intake", "stager", "compiler", "executor", "watcher", "auditor"}

// Images are all there are, in the order in which they are built: the small ones first.
func Images() []Image {
	out := []Image{{
		Name: "pause", Set: Node, Module: "tools/images", Package: "./pause", Binary: "pause",
		Description: "Holds the namespaces of a pod",
	}}
	out = append(out, demos()...)
	for _, s := range services {
		out = append(out, Image{
			Name: "orkestra-" + s, Set: Ours, Module: "services/" + s, Package: "./cmd/" + s, Binary: "orkestra-" + s,
			Description: "Orkestra's " + s,
		})
	}
	out = append(out, Image{
		Name: "orkestra", Set: Ours, Module: "cli", Package: "./cmd/orkestra", Binary: "orkestra",
		Description: "Orkestra's command line",
	}, Image{
		Name: "custom-executor", Set: Test, Module: "test", Package: "./e2enode/customexecutor", Binary: "custom-executor",
		Description: "An executor of somebody else, for the tests",
	})
	return append(out, servers()...)
}

// demos listen where the containers of the example charts listen.
func demos() []Image {
	demo := func(name, reference string, port int) Image {
		return Image{
			Name: "demo-" + name, Set: Demo, Reference: reference, Module: "tools/images", Package: "./demo", Binary: "demo",
			Args: []string{"--name", name, "--listen", fmt.Sprintf(":%d", port)}, Ports: []int{port},
			Description: "Stands in for " + reference + " of the example charts",
		}
	}
	out := []Image{demo("gateway", "docker.io/library/nginx:1.29-alpine", 80)}
	for _, name := range []string{"details", "productpage", "ratings", "reviews"} {
		out = append(out, demo(name, "docker.io/istio/examples-bookinfo-"+name+"-v1:1.20.1", 9080))
	}
	return out
}

func servers() []Image {
	const argo = "github.com/argoproj/argo-workflows/v3"
	return []Image{
		{
			Name: "nats", Set: Servers, Module: "servers/nats", Package: "github.com/nats-io/nats-server/v2", Binary: "nats-server",
			Upstream: "github.com/nats-io/nats-server/v2", Description: "NATS",
		}, {
			Name: "chartmuseum", Set: Servers, Module: "servers/chartmuseum", Package: "helm.sh/chartmuseum/cmd/chartmuseum",
			Binary: "chartmuseum", Upstream: "helm.sh/chartmuseum", VersionSymbol: "main.Version", Description: "ChartMuseum",
		}, {
			Name: "argoexec", Set: Servers, Module: "servers/argoexec", Package: argo + "/cmd/argoexec", Binary: "argoexec",
			Upstream: argo, VersionSymbol: argo + ".version",
			// It is a symbolic link upstream, which module archives leave out.
			Missing: "workflow/executor/osspecific/signal_linux.go", From: "workflow/executor/osspecific/signal_darwin.go",
			Description: "The side of Argo Workflows that is in its pods",
		}, {
			// Argo's own main, with the flags that its manifests and our chart give it; that of servers/argo is for the stack.
			Name: "workflow-controller", Set: Servers, Module: "servers/argoexec", Package: argo + "/cmd/workflow-controller",
			Binary: "workflow-controller", Upstream: argo, VersionSymbol: argo + ".version", Description: "Argo Workflows' controller",
		}, {
			Name: "helm-controller", Set: Servers, Module: "servers/flux-helm", Package: "github.com/fluxcd/helm-controller",
			Binary: "helm-controller", Upstream: "github.com/fluxcd/helm-controller", Description: "Flux's helm-controller",
		}, {
			Name: "source-controller", Set: Servers, Module: "servers/flux-source", Package: "github.com/fluxcd/source-controller",
			Binary: "source-controller", Upstream: "github.com/fluxcd/source-controller", Description: "Flux's source-controller",
		},
	}
}

// Select returns the images whose name or set is among what is asked for, in the order of the catalog. Nothing asked for
// is everything but what only tests run.
func Select(asked []string) ([]Image, error) {
	known := map[string]bool{}
	var out []Image
	for _, i := range Images() {
		known[i.Name], known[i.Set] = true, true
		if len(asked) == 0 && i.Set != Test || slices.Contains(asked, i.Name) || slices.Contains(asked, i.Set) {
			out = append(out, i)
		}
	}
	for _, a := range asked {
		if !known[a] {
			return nil, fmt.Errorf("there is no image and no set of images %q; the sets are %s", a,
				strings.Join([]string{Ours, Servers, Node, Demo, Test}, ", "))
		}
	}
	return out, nil
}
