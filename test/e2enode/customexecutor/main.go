// Command custom-executor is an executor as somebody else would write it: it knows the arguments that executors are given,
// Kubernetes and Flux, and nothing of Orkestra. It applies or deletes the HelmRelease that it is given, and waits for it.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// arguments are those of the original's executors.
type arguments struct {
	spec, action, data string
	timeout, interval  time.Duration
}

func main() {
	var a arguments
	flag.StringVar(&a.spec, "spec", "", "the HelmRelease, as base64 of its JSON")
	flag.StringVar(&a.action, "action", "install", "install or delete")
	flag.StringVar(&a.data, "data", "", "the executor's own parameters, as base64")
	flag.DurationVar(&a.timeout, "timeout", 5*time.Minute, "how long it may take")
	flag.DurationVar(&a.interval, "interval", time.Second, "how often to look")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, a); err != nil {
		fmt.Fprintln(os.Stderr, "custom-executor:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, a arguments) error {
	raw, err := base64.StdEncoding.DecodeString(a.spec)
	if err != nil {
		return fmt.Errorf("decoding --spec: %w", err)
	}
	hr := &helmv2.HelmRelease{}
	if err := json.Unmarshal(raw, hr); err != nil {
		return fmt.Errorf("decoding --spec: %w", err)
	}
	data, err := base64.StdEncoding.DecodeString(a.data)
	if err != nil {
		return fmt.Errorf("decoding --data: %w", err)
	}
	fmt.Printf("%s %s/%s with %s\n", a.action, hr.Namespace, hr.Name, data)
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := helmv2.AddToScheme(scheme); err != nil {
		return fmt.Errorf("building the scheme: %w", err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("making the client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if a.action == "delete" {
		return remove(ctx, c, hr, a.interval)
	}
	return install(ctx, c, hr, a.interval)
}

// install makes the release what it is to be, and waits until it is ready.
func install(ctx context.Context, c client.Client, want *helmv2.HelmRelease, interval time.Duration) error {
	err := c.Create(ctx, want.DeepCopy())
	if apierrors.IsAlreadyExists(err) {
		err = retry.RetryOnConflict(retry.DefaultRetry, func() error { return update(ctx, c, want) })
	}
	if err != nil {
		return fmt.Errorf("writing the HelmRelease: %w", err)
	}
	have := &helmv2.HelmRelease{}
	return poll(ctx, interval, func() (bool, error) {
		if err := c.Get(ctx, client.ObjectKeyFromObject(want), have); err != nil {
			return false, err
		}
		ready := apimeta.FindStatusCondition(have.Status.Conditions, "Ready")
		if have.Status.ObservedGeneration != have.Generation || ready == nil {
			return false, nil
		}
		if apimeta.IsStatusConditionTrue(have.Status.Conditions, "Stalled") {
			return false, errors.New(ready.Message)
		}
		return ready.Status == "True", nil
	})
}

func update(ctx context.Context, c client.Client, want *helmv2.HelmRelease) error {
	have := &helmv2.HelmRelease{}
	if err := c.Get(ctx, client.ObjectKeyFromObject(want), have); err != nil {
		return err
	}
	have.Spec, have.Labels, have.Annotations = want.Spec, want.Labels, want.Annotations
	return c.Update(ctx, have)
}

// remove deletes the release, and waits until it is gone.
func remove(ctx context.Context, c client.Client, hr *helmv2.HelmRelease, interval time.Duration) error {
	return poll(ctx, interval, func() (bool, error) {
		err := c.Delete(ctx, hr.DeepCopy())
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
}

// poll looks until it is done, at once and then at every interval.
func poll(ctx context.Context, interval time.Duration, look func() (bool, error)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		done, err := look()
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the HelmRelease: %w", ctx.Err())
		case <-tick.C:
		}
	}
}
