package gather

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/cli/internal/doctor"
	"orkestra.dev/pkg/events"
)

// mostRead is how much of an answer is read.
const mostRead = 64 << 10

// server says its version, and in the header of the answer what time it is.
func (c *cluster) server(ctx context.Context) (doctor.Server, error) {
	var out doctor.Server
	before := time.Now()
	header, body, err := fetch(ctx, c.http, c.host+"/version")
	if err != nil {
		return out, err
	}
	var info version.Info
	if err := json.Unmarshal(body, &info); err != nil {
		return out, fmt.Errorf("reading the version: %w", err)
	}
	out.Version = info.GitVersion
	at, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return out, fmt.Errorf("reading the server's time: %w", err)
	}
	// The header has whole seconds, and was written between the two looks at our clock.
	middle := before.Add(time.Since(before) / 2)
	out.Ahead = at.Add(time.Second / 2).Sub(middle).Round(time.Second)
	return out, nil
}

// fetch a page; any status but 200 is an error with what the page says.
func fetch(ctx context.Context, from *http.Client, url string) (http.Header, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	response, err := from.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, mostRead))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return response.Header, body, err
}

// probes of all addresses, which have no credentials of ours.
func (c *cluster) probes(l *looks) []doctor.Probe {
	plain := &http.Client{}
	out := make([]doctor.Probe, 0, len(c.options.Probes))
	for _, name := range slices.Sorted(maps.Keys(c.options.Probes)) {
		out = append(out, doctor.Probe{Name: name, URL: c.options.Probes[name]})
	}
	for i := range out {
		l.start(func(ctx context.Context) { _, _, out[i].Err = fetch(ctx, plain, out[i].URL) })
	}
	return out
}

func (c *cluster) crds(ctx context.Context) ([]apiextensionsv1.CustomResourceDefinition, error) {
	var out []apiextensionsv1.CustomResourceDefinition
	for _, name := range doctor.CRDs() {
		var crd apiextensionsv1.CustomResourceDefinition
		err := c.Get(ctx, client.ObjectKey{Name: name}, &crd)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, crd)
	}
	return out, nil
}

const (
	labelName      = "app.kubernetes.io/name"
	labelComponent = "app.kubernetes.io/component"
)

// controllers may be somebody else's, in any namespace.
var controllers = []string{"workflow-controller", "helm-controller", "source-controller"}

func (c *cluster) workloads(ctx context.Context) ([]doctor.Workload, error) {
	ours := []client.ListOption{client.InNamespace(c.options.Namespace), client.MatchingLabels{labelName: "orkestra"}}
	var deployments appsv1.DeploymentList
	var sets appsv1.StatefulSetList
	if err := errors.Join(c.List(ctx, &deployments, ours...), c.List(ctx, &sets, ours...)); err != nil {
		return nil, err
	}
	var out []doctor.Workload
	for i := range deployments.Items {
		out = append(out, deployment(&deployments.Items[i], true))
	}
	for i := range sets.Items {
		s := &sets.Items[i]
		out = append(out, workload("StatefulSet", s, s.Spec.Template.Spec, s.Spec.Replicas, s.Status.ReadyReplicas, true))
	}
	for _, name := range controllers {
		if slices.ContainsFunc(out, func(w doctor.Workload) bool { return w.Component == name }) {
			continue
		}
		if err := c.List(ctx, &deployments, client.MatchingFields{"metadata.name": name}); err != nil {
			return out, err
		}
		for i := range deployments.Items {
			out = append(out, deployment(&deployments.Items[i], false))
		}
	}
	return out, nil
}

func deployment(d *appsv1.Deployment, ours bool) doctor.Workload {
	return workload("Deployment", d, d.Spec.Template.Spec, d.Spec.Replicas, d.Status.ReadyReplicas, ours)
}

func workload(kind string, o metav1.Object, pod corev1.PodSpec, desired *int32, ready int32, ours bool) doctor.Workload {
	w := doctor.Workload{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName(), Component: o.GetLabels()[labelComponent], Ours: ours, Desired: 1, Ready: ready, Env: map[string]string{}}
	if !ours || w.Component == "" {
		w.Component = o.GetName()
	}
	if desired != nil {
		w.Desired = *desired
	}
	if len(pod.Containers) > 0 {
		w.Image = pod.Containers[0].Image
		for _, e := range pod.Containers[0].Env {
			w.Env[e.Name] = e.Value
		}
	}
	return w
}

const (
	// glances at the consumers before it is said that nobody is there: a worker does not
	// wait while it handles an event.
	glances = 12
	pause   = 250 * time.Millisecond
	// connecting takes no longer than this.
	connecting = 5 * time.Second
)

// topology as it is, and who was waiting in any of several looks.
func topology(ctx context.Context, bus Bus) (events.TopologyState, error) {
	var out events.TopologyState
	err := bus(ctx, func(ctx context.Context, b *events.Bus) (err error) {
		if out, err = arrive(ctx, b); err != nil {
			return err
		}
		for range glances {
			if !slices.ContainsFunc(out.Consumers, func(c events.ConsumerCondition) bool { return c.Waiting == 0 && !c.Missing }) || !wait(ctx) {
				return nil
			}
			next, err := b.Inspect(ctx)
			if err != nil {
				continue // it was seen once, and that is enough
			}
			for i := range next.Consumers {
				next.Consumers[i].Waiting = max(next.Consumers[i].Waiting, out.Consumers[i].Waiting)
			}
			out = next
		}
		return nil
	})
	return out, err
}

// arrive has the first answer: the connection is made meanwhile.
func arrive(ctx context.Context, b *events.Bus) (events.TopologyState, error) {
	ctx, cancel := context.WithTimeout(ctx, connecting)
	defer cancel()
	var last error
	for {
		out, err := b.Inspect(ctx)
		switch {
		case err == nil:
			return out, nil
		case last == nil || ctx.Err() == nil:
			last = err // what is said of its own end is no news
		}
		if !wait(ctx) {
			return out, last
		}
	}
}

// wait a moment; false where ctx was done before.
func wait(ctx context.Context) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
