// Command orkestra-demo runs the main job once, for a person to watch: it brings
// up the local stack, applies the bookinfo group and shows its tree until it is
// ready.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"orkestra.dev/examples"
	"orkestra.dev/local/stack"
	"orkestra.dev/local/timing"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// What the client library logs is not for the person who watches.
	ctrl.SetLogger(logr.Discard())
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var o stack.Options
	var timeout time.Duration
	o.Services = true
	cmd := &cobra.Command{
		Use:   "orkestra-demo",
		Short: "Bring up the local stack and roll out the bookinfo group",
		Example: `  orkestra-demo                                 # on the local stack
  KUBECONFIG=~/.kube/config orkestra-demo       # on a cluster of yours`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Log = os.Stdout
			return run(cmd.Context(), o, timeout)
		},
	}
	cmd.Flags().StringVar(&o.Root, "root", ".", "the checkout")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "state of the stack (default <root>/.local)")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long the rollout may take")
	return cmd
}

const group = "bookinfo"

func run(ctx context.Context, o stack.Options, timeout time.Duration) error {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return err
	}
	o.Root = root
	o.Kubeconfig = os.Getenv("KUBECONFIG")

	if o.Kubeconfig != "" {
		fmt.Printf("Using the cluster of KUBECONFIG=%s; its CRDs and the namespace orkestra are made there, and stay.\n", o.Kubeconfig)
	}
	begin := time.Now()
	s, err := stack.Up(ctx, o)
	if err != nil {
		return fmt.Errorf("bringing up the local stack: %w", err)
	}
	go s.Tend(ctx)
	env, err := s.Env()
	if err != nil {
		return err
	}
	up := time.Since(begin)

	museum := examples.Museum{URL: env["CHARTMUSEUM_URL"]}
	if museum.Username, museum.Password, err = s.MuseumLogin(); err != nil {
		return err
	}
	repository, err := museum.Push(ctx, "examples")
	if err != nil {
		return err
	}
	fmt.Printf("\nThe example charts are at %s\n", repository)

	config, err := s.RESTConfig()
	if err != nil {
		return err
	}
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	recorder, err := timing.Record(watching, config)
	if err != nil {
		return err
	}
	c, err := client.New(config, client.Options{})
	if err != nil {
		return err
	}
	manifest := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(examples.Bookinfo(repository, stack.Namespace+"/"+stack.MuseumSecret), &manifest.Object); err != nil {
		return fmt.Errorf("reading the example group: %w", err)
	}
	applied := time.Now()
	err = c.Apply(ctx, client.ApplyConfigurationFromUnstructured(manifest), client.FieldOwner("orkestra-demo"), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("applying the group %s: %w", group, err)
	}
	fmt.Printf("Applied the group %s of examples/bookinfo.yaml\n\n", group)

	status := exec.CommandContext(ctx, filepath.Join(root, ".local", "bin", "orkestra"), "status", group, "--watch", "--timeout", timeout.String())
	status.Stdout, status.Stderr = os.Stdout, os.Stderr
	status.Env = os.Environ()
	for k, v := range env {
		status.Env = append(status.Env, k+"="+v)
	}
	status.Cancel = func() error { return status.Process.Signal(os.Interrupt) }
	if err := status.Run(); err != nil {
		return errors.Join(fmt.Errorf("the group %s did not become ready: %w", group, err),
			errors.New("the logs of the services are in .local/log; `make status` lists them"))
	}
	report(recorder, applied, up)
	settings, down := ".local/env", "make down"
	if o.Dir != "" {
		settings, down = filepath.Join(o.Dir, "env"), "go run ./local/cmd/orkestra-local down --dir "+o.Dir
	}
	fmt.Printf(`
Try next, in a shell with the stack's settings:

  . %s
  kubectl get applicationgroups                 # the group, as any tool sees it
  kubectl get helmreleases -A                   # the releases it became
  orkestra events --group bookinfo              # what the services said on the way
  kubectl patch ag bookinfo --type json -p \
    '[{"op":"replace","path":"/spec/applications/1/spec/release/values/reviews/replicaCount","value":3}]'
  orkestra status bookinfo --watch              # ... and what came of it
  kubectl delete ag bookinfo                    # all of it again, in reverse
  %-45s # leave nothing behind
`, settings, down)
	return nil
}

// report prints how long it took, and where the time between parents and children went.
func report(r *timing.Recorder, applied time.Time, up time.Duration) {
	releases := r.Releases(group)
	if len(releases) == 0 {
		return
	}
	var ready time.Time
	for _, rel := range releases {
		if rel.Ready.After(ready) {
			ready = rel.Ready
		}
	}
	round := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	fmt.Printf("\nstack up                            %8s\n", up.Round(100*time.Millisecond))
	if first := releases[0].Created; first.After(applied) {
		fmt.Printf("apply -> first HelmRelease created  %8s\n", round(first.Sub(applied)))
		fmt.Printf("apply -> last HelmRelease ready     %8s\n", round(ready.Sub(applied)))
		if edges := r.Edges(group); len(edges) > 0 {
			fmt.Printf("edge overhead, parents ready -> child created: median %s, max %s of %d edges\n",
				round(timing.Percentile(edges, 50)), round(timing.Percentile(edges, 100)), len(edges))
		}
	} else {
		fmt.Println("the group was there already: nothing was created")
	}
}
