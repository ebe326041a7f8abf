package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"orkestra.dev/local/stack"
)

var (
	helmReleases = schema.GroupVersionResource{Group: "helm.toolkit.fluxcd.io", Version: "v2", Resource: "helmreleases"}
	groups       = schema.GroupVersionResource{Group: "orkestra.azure.microsoft.com", Version: "v1alpha1", Resource: "applicationgroups"}
	workflows    = schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "workflows"}
	secrets      = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
)

// watch shows all contenders' releases to their tracks: one for all, so that all are
// measured with the same.
type watch struct {
	mu     sync.Mutex
	tracks []*track
}

// newWatch returns when what is there has been seen; it ends with ctx.
func newWatch(ctx context.Context, config *rest.Config) (*watch, error) {
	w := &watch{}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	// Helm writes the state of a release into labels of its records: what they hold is
	// not needed.
	records, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	factory := dynamicinformer.NewDynamicSharedInformerFactory(objects, 0)
	helm := metadatainformer.NewFilteredSharedInformerFactory(records, 0, metav1.NamespaceAll,
		func(o *metav1.ListOptions) { o.LabelSelector = "owner=helm" })
	err = hear(ctx, map[cache.SharedIndexInformer]func(any, time.Time){
		factory.ForResource(helmReleases).Informer(): w.helmRelease,
		factory.ForResource(groups).Informer():       w.group,
		helm.ForResource(secrets).Informer():         w.record,
	})
	return w, err
}

// hear runs informers, and returns when all have shown what is there.
func hear(ctx context.Context, handlers map[cache.SharedIndexInformer]func(any, time.Time)) error {
	var synced []cache.InformerSynced
	for informer, see := range handlers {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { see(o, time.Now()) },
			UpdateFunc: func(_, o any) { see(o, time.Now()) },
		})
		if err != nil {
			return fmt.Errorf("watching: %w", err)
		}
		synced = append(synced, informer.HasSynced)
		go informer.RunWithContext(ctx)
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return fmt.Errorf("watching: %w", context.Cause(ctx))
	}
	return nil
}

// follow shows from now on to a track what is its own.
func (w *watch) follow(t *track) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tracks = append(w.tracks, t)
}

func (w *watch) unfollow(t *track) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.tracks {
		if w.tracks[i] == t {
			w.tracks = append(w.tracks[:i], w.tracks[i+1:]...)
			return
		}
	}
}

// each calls fn with every track.
func (w *watch) each(fn func(*track)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.tracks {
		fn(t)
	}
}

func (w *watch) helmRelease(o any, now time.Time) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok || u.GetDeletionTimestamp() != nil {
		return
	}
	w.each(func(t *track) {
		if t.namespace == u.GetNamespace() {
			t.seeRelease(u, now)
		}
	})
}

func (w *watch) group(o any, now time.Time) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok || u.GetDeletionTimestamp() != nil {
		return
	}
	w.each(func(t *track) {
		if t.namespace == u.GetName() {
			t.seeGroup(u, now)
		}
	})
}

func (w *watch) record(o any, now time.Time) {
	m, ok := o.(*metav1.PartialObjectMetadata)
	if !ok {
		return
	}
	w.each(func(t *track) {
		if name, ours := t.names[record{m.Namespace, m.Labels["name"]}]; ours {
			t.seeRecord(name, m.Namespace+"/"+m.Name, m.Labels["status"], now)
		}
	})
}

// workflowNamespace is where Orkestra's workflows are.
const workflowNamespace = stack.Namespace
