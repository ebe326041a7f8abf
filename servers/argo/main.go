// Command workflow-controller runs Argo's workflow controller on one machine.
//
// It is Argo's own controller without leader election and without the parts of Argo's main that listen: that one serves
// its health on port 6060 of every interface, with no flag for it, so two of them cannot live on one machine.
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
	"syscall"
	"time"
	_ "time/tzdata" // CronWorkflows may name a time zone that the machine does not have

	"github.com/argoproj/argo-workflows/v3"
	wfclientset "github.com/argoproj/argo-workflows/v3/pkg/client/clientset/versioned"
	cmdutil "github.com/argoproj/argo-workflows/v3/util/cmd"
	"github.com/argoproj/argo-workflows/v3/util/logs"
	"github.com/argoproj/argo-workflows/v3/workflow/common"
	"github.com/argoproj/argo-workflows/v3/workflow/controller"
	"github.com/argoproj/argo-workflows/v3/workflow/metrics"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Numbers of workers, as Argo's own main has them by default.
const (
	workflowWorkers     = 32
	workflowTTLWorkers  = 4
	podCleanupWorkers   = 4
	cronWorkflowWorkers = 8
	archiveWorkers      = 8
)

type options struct {
	kubeconfig, namespace, executorImage, healthAddr, logLevel string

	qps   float64
	burst int
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default: the cluster that this runs in)")
	flag.StringVar(&o.namespace, "namespace", "argo", "the namespace of the workflows, and of "+common.ConfigMapName)
	flag.StringVar(&o.executorImage, "executor-image", "", "image of argoexec")
	flag.StringVar(&o.healthAddr, "health-addr", "127.0.0.1:6060", "address that serves /healthz")
	flag.StringVar(&o.logLevel, "loglevel", "info", "debug, info, warn or error")
	flag.Float64Var(&o.qps, "qps", 20, "requests a second to the API server")
	flag.IntVar(&o.burst, "burst", 30, "requests at once to the API server")
	version := flag.Bool("version", false, "print Argo's version and exit")
	flag.Parse()
	if *version {
		fmt.Println(argo.GetVersion().Version)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		slog.Error("workflow controller ended", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	cmdutil.SetLogLevel(o.logLevel)
	// argoexec is given the level that is set here, and does not start where none is.
	cmdutil.SetGLogLevel(0)
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("loading the kubeconfig: %w", err)
	}
	config = rest.AddUserAgent(config, "argo-workflows/"+argo.GetVersion().Version+" argo-controller")
	config.QPS, config.Burst = float32(o.qps), o.burst
	logs.AddK8SLogTransportWrapper(config)
	metrics.AddMetricsTransportWrapper(ctx, config)

	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making the Kubernetes client: %w", err)
	}
	workflows, err := wfclientset.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making the Argo client: %w", err)
	}
	c, err := controller.NewWorkflowController(ctx, config, kube, workflows, o.namespace, o.namespace,
		o.executorImage, "", "text", common.ConfigMapName, false)
	if err != nil {
		return fmt.Errorf("making the workflow controller: %w", err)
	}
	go c.Run(ctx, workflowWorkers, workflowTTLWorkers, podCleanupWorkers, cronWorkflowWorkers, archiveWorkers)

	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		// Argo's own check calls a controller that has not begun to watch healthy: a standby, where there is an election.
		if !c.IsLeader() {
			http.Error(w, "not watching yet", http.StatusServiceUnavailable)
			return
		}
		c.Healthz(w, r)
	})
	server := &http.Server{Addr: o.healthAddr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving health on %s: %w", o.healthAddr, err)
	}
	return nil
}
