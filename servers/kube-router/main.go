// Command kube-router enforces the NetworkPolicies of the local stack's cluster on its node: the network policy controller
// of kube-router, by iptables and ipset, and nothing else of it. kube-router's own main routes too, and proxies. The one of
// sigs.k8s.io hands each packet to a program by nftables' queue, which not every kernel has.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	krouter "github.com/cloudnativelabs/kube-router/v2/pkg/options"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// syncPeriod is how often the rules are made anew where nothing has changed.
const syncPeriod = 30 * time.Second

type options struct {
	kubeconfig, node, services, healthAddr string
}

func main() {
	klog.InitFlags(flag.CommandLine)
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster")
	flag.StringVar(&o.node, "hostname-override", "", "name of this node in the cluster")
	flag.StringVar(&o.services, "service-cluster-ip-range", "10.96.0.0/12", "addresses of Services")
	flag.StringVar(&o.healthAddr, "health-addr", "127.0.0.1:20244", "address that serves /healthz")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		slog.Error("network policies are no longer enforced", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	rest, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("loading the kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return fmt.Errorf("making the Kubernetes client: %w", err)
	}
	// The kubelet makes the node, and whether we may see it is known to the API server a moment after it was said.
	err = wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		node, err := client.CoreV1().Nodes().Get(ctx, o.node, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			return false, nil
		}
		return err == nil && len(node.Status.Addresses) > 0, err
	})
	if err != nil {
		return fmt.Errorf("waiting for the node %s: %w", o.node, err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods, namespaces := factory.Core().V1().Pods().Informer(), factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), pods.HasSynced, namespaces.HasSynced, policies.HasSynced) {
		return nil
	}
	c, err := controller(client, o, pods, policies, namespaces)
	if err != nil {
		return err
	}

	// It says each time that it begins to make the rules, and waits until that is heard.
	beats := make(chan *healthcheck.ControllerHeartbeat)
	begun := make(chan struct{})
	go func() {
		<-beats
		close(begun)
		for range beats {
			continue // it waits for each to be heard
		}
	}()
	var running sync.WaitGroup
	running.Add(1)
	go c.Run(beats, ctx.Done(), &running)
	defer running.Wait()
	return serveHealth(ctx, o.healthAddr, begun)
}

func controller(client kubernetes.Interface, o options, pods, policies, namespaces cache.SharedIndexInformer) (*netpol.NetworkPolicyController, error) {
	config := krouter.NewKubeRouterConfig()
	config.EnableIPv4, config.HostnameOverride, config.IPTablesSyncPeriod = true, o.node, syncPeriod
	config.ClusterIPCIDRs = []string{o.services}
	tables, sets, err := netpol.NewIPTablesHandlers(config)
	if err != nil {
		return nil, fmt.Errorf("finding iptables and ipset: %w", err)
	}
	c, err := netpol.NewNetworkPolicyController(client, config, pods, policies, namespaces, new(sync.Mutex), tables, sets)
	if err != nil {
		return nil, fmt.Errorf("making the network policy controller: %w", err)
	}
	for informer, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods: c.PodEventHandler, policies: c.NetworkPolicyEventHandler, namespaces: c.NamespaceEventHandler,
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return nil, fmt.Errorf("watching: %w", err)
		}
	}
	return c, nil
}

// serveHealth until the context ends: it is healthy when rules are being made.
func serveHealth(ctx context.Context, addr string, begun <-chan struct{}) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-begun:
		default:
			http.Error(w, "no rules yet", http.StatusServiceUnavailable)
		}
	})
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving health on %s: %w", addr, err)
	}
	return nil
}
