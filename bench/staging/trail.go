package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
)

// watched is what milestones are seen in.
var watched = []schema.GroupVersionResource{
	{Group: "source.toolkit.fluxcd.io", Version: "v1", Resource: "helmrepositories"},
	{Group: "source.toolkit.fluxcd.io", Version: "v1", Resource: "helmcharts"},
	{Group: "helm.toolkit.fluxcd.io", Version: "v2", Resource: "helmreleases"},
	{Group: "argoproj.io", Version: "v1alpha1", Resource: "workflows"},
	{Group: "apps", Version: "v1", Resource: "controllerrevisions"},
}

// smallChart is the size of the charts whose way is measured, in bytes.
const smallChart = 1 << 10

// newTrail returns when its watches have seen what is there.
func newTrail(ctx context.Context, s *stack.Stack, lanes []lane, repeats int) (_ *trail, err error) {
	env, err := s.Env()
	if err != nil {
		return nil, fmt.Errorf("reading where the stack is: %w", err)
	}
	config, err := s.RESTConfig()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	watching, stop := context.WithCancel(ctx)
	t := &trail{stop: stop, stack: s, museum: env["CHARTMUSEUM_URL"]}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	if t.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if t.bus, err = events.Connect(ctx, events.Options{Source: "orkestra://bench/staging"}.FromEnvironment(func(name string) string { return env[name] })); err != nil {
		return nil, err
	}
	if t.shelf, err = newSupply(chartsOf(lanes, repeats), smallChart); err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	factory := dynamicinformer.NewDynamicSharedInformerFactory(objects, 0)
	var synced []cache.InformerSynced
	for _, resource := range watched {
		informer := factory.ForResource(resource).Informer()
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { t.see(o, time.Now()) },
			UpdateFunc: func(_, o any) { t.see(o, time.Now()) },
		}); err != nil {
			return nil, fmt.Errorf("watching %s: %w", resource.Resource, err)
		}
		synced = append(synced, informer.HasSynced)
	}
	factory.Start(watching.Done())
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil, fmt.Errorf("watching: %w", context.Cause(ctx))
	}
	return t, nil
}

func (t *trail) close() error {
	t.stop()
	var errs []error
	if t.bus != nil {
		errs = append(errs, t.bus.Close())
	}
	if t.shelf != nil {
		errs = append(errs, t.shelf.Close())
	}
	return errors.Join(errs...)
}

// pushed is when ChartMuseum was given the last archive of a group.
func (t *trail) pushed(ctx context.Context, group string) (last time.Time, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.museum+"/"+group+"/index.yaml", nil)
	if err != nil {
		return last, err
	}
	username, password, err := t.stack.MuseumLogin()
	if err != nil {
		return last, err
	}
	req.SetBasicAuth(username, password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return last, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	var index struct {
		Entries map[string][]struct{ Created time.Time }
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return last, fmt.Errorf("reading ChartMuseum's index of %s: %w", group, err)
	}
	if err := yaml.Unmarshal(body, &index); err != nil {
		return last, fmt.Errorf("reading ChartMuseum's index of %s: %w", group, err)
	}
	for _, entries := range index.Entries {
		for _, e := range entries {
			if e.Created.After(last) {
				last = e.Created
			}
		}
	}
	return last, nil
}
