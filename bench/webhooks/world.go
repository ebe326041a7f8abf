package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
)

// The Receivers, all in Orkestra's namespace.
const (
	receiverGitHub  = "github"
	receiverCI      = "ci"
	receiverLimited = "limited"
)

// burstGroup is the group that a burst is about, after those of the mix.
const burstGroup = -1

// world is what is measured, and what it needs.
type world struct {
	options
	stack  *stack.Stack
	env    map[string]string
	client client.Client
	nc     *nats.Conn
	js     jetstream.JetStream
	// intake is its executable.
	intake string
	// topology is what makes the streams: intake may not.
	topology *process
	log      *os.File
}

func newWorld(ctx context.Context, s *stack.Stack, o options) (_ *world, err error) {
	w := &world{options: o, stack: s, intake: filepath.Join(s.Dir, "bench-intake")}
	if w.env, err = s.Env(); err != nil {
		return nil, fmt.Errorf("reading where the stack is: %w", err)
	}
	config, err := s.RESTConfig()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	if w.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	if w.log, err = os.Create(filepath.Join(s.Dir, "bench-webhooks.log")); err != nil {
		return nil, fmt.Errorf("making the log: %w", err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", w.intake, "./services/intake/cmd/intake")
	build.Dir, build.Stderr = o.root, os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("building intake: %w", err)
	}
	health, err := freeAddress()
	if err != nil {
		return nil, err
	}
	topology := exec.Command(w.intake, "topology", "--nats-url", w.env["NATS_URL"], "--nats-ca", w.env["NATS_CA"],
		"--nats-nkey", s.NATSKey(events.IdentityTopology), "--metrics-addr", "0", "--health-addr", health)
	topology.Stdout, topology.Stderr = w.log, w.log
	if w.topology, err = start(ctx, topology, "", "http://"+health+"/readyz"); err != nil {
		return nil, fmt.Errorf("making the streams, see %s: %w", w.log.Name(), err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.topology.stop())
		}
	}()
	if w.nc, w.js, err = connect(func(name string) string { return w.env[name] }, "_INBOX"); err != nil {
		return nil, err
	}
	return w, w.makeReceivers(ctx)
}

func (w *world) close() error {
	w.nc.Close()
	return errors.Join(w.topology.stop(), w.log.Close())
}

// makeReceivers of the kinds that are sent to, without a limit that is felt but for one.
func (w *world) makeReceivers(ctx context.Context) error {
	objects := []client.Object{&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: stack.Namespace, Name: "webhooks"},
		StringData: map[string]string{v1alpha1.SecretKeyToken: token},
	}}
	for name, kind := range map[string]v1alpha1.ReceiverType{
		receiverGitHub: v1alpha1.ReceiverGitHub, receiverCI: v1alpha1.ReceiverGenericHMAC, receiverLimited: v1alpha1.ReceiverGenericHMAC,
	} {
		requests := int32(100_000)
		if name == receiverLimited {
			requests = 50
		}
		objects = append(objects, &v1alpha1.Receiver{
			ObjectMeta: metav1.ObjectMeta{Namespace: stack.Namespace, Name: name},
			Spec: v1alpha1.ReceiverSpec{
				Type: kind, SecretRef: v1alpha1.ReceiverSecretRef{Name: "webhooks"},
				Groups:    v1alpha1.ReceiverGroups{Selector: &metav1.LabelSelector{}},
				RateLimit: &v1alpha1.ReceiverRateLimit{Requests: requests, Period: metav1.Duration{Duration: time.Second}},
			},
		})
	}
	for _, o := range objects {
		if err := w.client.Create(ctx, o); err != nil {
			return fmt.Errorf("making %s: %w", o.GetName(), err)
		}
	}
	return nil
}

// paths of the Receivers, when all of them are heard.
func (w *world) paths(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		var list v1alpha1.ReceiverList
		if err := w.client.List(ctx, &list); err != nil {
			return nil, fmt.Errorf("listing the receivers: %w", err)
		}
		paths := map[string]string{}
		for _, r := range list.Items {
			if apimeta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionReady) {
				paths[r.Name] = r.Status.WebhookPath
			}
		}
		if len(paths) == len(list.Items) {
			return paths, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the receivers: %w", ctx.Err())
		case <-time.After(lookTime):
		}
	}
}

func groupName(contender string, i int) string {
	if i == burstGroup {
		return contender + "-burst"
	}
	return fmt.Sprintf("%s-%d", contender, i)
}

// steadyName is the name of a group that one delivery of the steady scenario is about.
func steadyName(contender string, i int) string { return fmt.Sprintf("%s-steady-%d", contender, i) }

// makeGroups that deliveries are about, each with a chart of its own, and say how many.
func (w *world) makeGroups(ctx context.Context, contender string) (made int, err error) {
	var names []string
	for i := burstGroup; i < w.groups; i++ {
		names = append(names, groupName(contender, i))
	}
	for i := range w.steadyRate * w.steadySeconds {
		names = append(names, steadyName(contender, i))
	}
	for _, name := range names {
		app := v1alpha1.Application{DAG: v1alpha1.DAG{Name: "web"}}
		app.Spec.Chart = v1alpha1.ChartRef{URL: "oci://" + registry, Name: name, Version: "1.x"}
		app.Spec.Release = v1alpha1.Release{TargetNamespace: "bench", Interval: metav1.Duration{Duration: 5 * time.Minute}}
		g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: name}}
		g.Spec.Applications = []v1alpha1.Application{app}
		if err := w.client.Create(ctx, g); err != nil {
			return 0, fmt.Errorf("making group %s: %w", name, err)
		}
	}
	return len(names), nil
}

// startIntake starts replicas of it, each with a port for webhooks.
func (w *world) startIntake(ctx context.Context, replicas int) (out []*process, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, stopAll(out))
		}
	}()
	for range replicas {
		var addresses [3]string
		for i := range addresses {
			if addresses[i], err = freeAddress(); err != nil {
				return out, err
			}
		}
		cmd := exec.Command(w.intake, "--kubeconfig", w.stack.Kubeconfig, "--nats-url", w.env["NATS_URL"], "--nats-ca", w.env["NATS_CA"],
			"--nats-nkey", w.stack.NATSKey("intake"), "--nats-topology", "await", "--namespace", stack.Namespace,
			"--metrics-addr", "0", "--health-addr", addresses[0], "--receiver-addr", addresses[1], "--pprof-addr", addresses[2])
		cmd.Stdout, cmd.Stderr = w.log, w.log
		p, err := start(ctx, cmd, "http://"+addresses[1], "http://"+addresses[0]+"/readyz")
		if err != nil {
			return out, fmt.Errorf("see %s: %w", w.log.Name(), err)
		}
		p.pprof = "http://" + addresses[2] + "/debug/pprof/profile"
		out = append(out, p)
	}
	return out, nil
}

func stopAll(processes []*process) error {
	var errs []error
	for _, p := range processes {
		errs = append(errs, p.stop())
	}
	return errors.Join(errs...)
}
