package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
	"orkestra.dev/pkg/events"
)

// diagnosis is what orkestra doctor -o json says.
type diagnosis struct {
	code     int
	Findings []struct{ Level, Name, What, Why, Do string }
}

func (d diagnosis) names() []string {
	var out []string
	for _, f := range d.Findings {
		out = append(out, f.Name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (d diagnosis) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "exit code %d", d.code)
	for _, f := range d.Findings {
		fmt.Fprintf(&b, "\n  %s %s: %s", f.Level, f.Name, f.What)
	}
	return b.String()
}

// doctor looks at the stack; it is told where ChartMuseum and the services are, as whoever
// sources the stack's variables is.
func doctor(t *testing.T, args ...string) diagnosis {
	t.Helper()
	args = append([]string{"doctor", "-o", "json", "--probe", "chartmuseum=" + env.vars["CHARTMUSEUM_URL"] + "/health"}, args...)
	for name, url := range env.vars {
		if service, ok := strings.CutSuffix(name, "_HEALTH_URL"); ok && strings.HasPrefix(name, "ORKESTRA_") {
			args = append(args, "--probe", strings.ToLower(strings.TrimPrefix(service, "ORKESTRA_"))+"="+strings.TrimSuffix(url, "/healthz")+"/readyz")
		}
	}
	code, out, errs := orkestra(t, args...)
	d := diagnosis{code: code}
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatalf("reading what the doctor says: %v\n%s%s", err, out, errs)
	}
	return d
}

// healthy waits until the doctor finds nothing at all.
func healthy(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, "the doctor to find nothing", func(context.Context) error {
		if d := doctor(t); d.code != 0 || len(d.Findings) > 0 {
			return errors.New(d.String())
		}
		return nil
	})
}

// fault is something that is put in on purpose. What it returns takes it out.
type fault struct {
	put func(t *testing.T) (mend func())
	// want are the names of findings that have to be there, and also of those that may
	// come along: one cause, several symptoms. Anything else is a false alarm.
	want, also []string
	flags      []string
}

// Faults that are put in on purpose are found and named, one after the other, with
// nothing else, and when they are mended nothing is found.
func TestDoctorFindsEachFault(t *testing.T) {
	answers(t, 0, nil, "dlq", "discard", "--all", "--yes") // of tests before
	// A healthy installation is one at work.
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	create(t, chain("doctorhealthy", s.URL, 3))
	awaitReady(t, "doctorhealthy", time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	healthy(t)
	answers(t, 0, []string{"Nothing is wrong."}, "doctor")
	stuck := []string{"--stuck-after", "3s"}
	// Whoever is away is missed in several places.
	away := []string{"service-not-ready", "consumer-busy"}
	for name, f := range map[string]fault{
		"FencePolicyGone":  {put: policyGone, want: []string{"policy-missing"}},
		"PolicyUnbound":    {put: policyUnbound, want: []string{"policy-unbound"}},
		"OldCRD":           {put: oldCRD, want: []string{"crd-old"}},
		"ServiceStopped":   {put: stopped("stager", "stager-2"), want: []string{"consumer-away", "service-not-ready"}},
		"WatcherStopped":   {put: stopped("watcher", "watcher-2"), want: []string{"service-not-ready"}},
		"BusStopped":       {put: stopped("nats"), want: []string{"bus-unreachable"}, also: away},
		"BusWiped":         {put: busWiped, want: []string{"stream-missing", "consumer-missing"}, also: away},
		"ConsumerChanged":  {put: consumerChanged, want: []string{"consumer-drift"}},
		"StreamLimited":    {put: streamLimited, want: []string{"stream-forgetful"}},
		"StreamChanged":    {put: streamChanged, want: []string{"stream-drift"}},
		"DeadLetter":       {put: deadLetter, want: []string{"dead-letters"}},
		"ChartMuseumDown":  {put: stopped("chartmuseum"), want: []string{"chartmuseum-unreachable"}},
		"WebhookAway":      {put: webhook(func(c *admissionregistrationv1.WebhookClientConfig) { c.URL = new("https://127.0.0.1:1/validate") }), want: []string{"webhook-unreachable"}},
		"WebhookDistrust":  {put: webhook(func(c *admissionregistrationv1.WebhookClientConfig) { c.CABundle = nil }), want: []string{"webhook-unreachable"}},
		"PermissionTaken":  {put: permissionTaken, want: []string{"permission-missing"}},
		"ArgoStopped":      {put: withGroup("doctorargo", "workflow-controller"), want: []string{"argo-silent"}},
		"HelmStopped":      {put: withGroup("doctorhelm", "helm-controller"), want: []string{"helm-silent"}},
		"ChartNotServed":   {put: notServed("doctorserved"), want: []string{"chart-not-served", "service-not-ready"}, also: []string{"consumer-away"}},
		"RegistryAway":     {put: registryAway, want: []string{"registry-unreachable"}},
		"GroupStays":       {put: groupStays, want: []string{"group-stays", "release-stays"}, also: []string{"left-behind"}, flags: stuck},
		"ReceiverNotReady": {put: receiverNotReady, want: []string{"receiver-not-ready"}},
	} {
		t.Run(name, func(t *testing.T) {
			mend := f.put(t)
			eventually(t, 2*time.Minute, "the doctor to find it, and nothing else", func(context.Context) error {
				return f.found(doctor(t, f.flags...))
			})
			mend()
			healthy(t)
		})
	}
}

func (f fault) found(d diagnosis) error {
	names := d.names()
	for _, want := range f.want {
		if !slices.Contains(names, want) {
			return fmt.Errorf("there is no %s: %s", want, d)
		}
	}
	for _, found := range d.Findings {
		if !slices.Contains(f.want, found.Name) && !slices.Contains(f.also, found.Name) {
			return fmt.Errorf("%s was not put in: %s", found.Name, d)
		}
		if found.What == "" || found.Why == "" || found.Do == "" {
			return fmt.Errorf("%s does not say what, why and what to do: %+v", found.Name, found)
		}
	}
	if d.code != 1 {
		return fmt.Errorf("want exit code 1: %s", d)
	}
	return nil
}

// mendOnce makes mending happen also where the test fails, and once only.
func mendOnce(t *testing.T, mend func(ctx context.Context) error) func() {
	t.Helper()
	done := false
	f := func() {
		if done {
			return
		}
		done = true
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := mend(ctx); err != nil {
			t.Errorf("mending: %v", err)
		}
	}
	t.Cleanup(f)
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func stopped(names ...string) func(*testing.T) func() {
	return func(t *testing.T) func() {
		var all []*stack.Process
		mend := mendOnce(t, func(ctx context.Context) error {
			for _, p := range all {
				if err := p.Start(ctx); err != nil {
					return err
				}
			}
			return nil
		})
		for _, name := range names {
			p, err := env.stack.Process(name)
			must(t, err)
			all = append(all, p)
			must(t, p.Stop(t.Context()))
		}
		return mend
	}
}

// remade deletes an object; mending creates it as it was.
func remade(t *testing.T, o client.Object) func() {
	t.Helper()
	must(t, env.client.Get(t.Context(), client.ObjectKeyFromObject(o), o))
	must(t, env.client.Delete(t.Context(), o))
	return mendOnce(t, func(ctx context.Context) error {
		o.SetResourceVersion("")
		o.SetUID("")
		return env.client.Create(ctx, o)
	})
}

const fencePolicy = "orkestra-helmrelease-fence"

func policyGone(t *testing.T) func() {
	return remade(t, &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: fencePolicy}})
}

// notServed takes away what a HelmChart offers, while nobody is there who would mend that.
func notServed(group string) func(t *testing.T) func() {
	return func(t *testing.T) func() {
		t.Helper()
		rollOutOne(t, group)
		mend := stopped("stager", "stager-2")(t)
		chart := helmChart(t, group)
		must(t, env.client.Status().Patch(t.Context(), chart, client.RawPatch(types.MergePatchType, []byte(`{"status":{"artifact":null}}`))))
		return mend
	}
}

func policyUnbound(t *testing.T) func() {
	return remade(t, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: fencePolicy}})
}

// changed edits an object; mending writes what it was.
func changed[T client.Object](t *testing.T, o T, edit func(T), back func(now, was T)) func() {
	t.Helper()
	key := client.ObjectKeyFromObject(o)
	must(t, env.client.Get(t.Context(), key, o))
	was := o.DeepCopyObject().(T)
	edit(o)
	must(t, env.client.Update(t.Context(), o))
	return mendOnce(t, func(ctx context.Context) error {
		if err := env.client.Get(ctx, key, o); err != nil {
			return err
		}
		back(o, was)
		return env.client.Update(ctx, o)
	})
}

// oldCRD is of a release that knew no rate limits.
func oldCRD(t *testing.T) func() {
	crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "receivers." + v1alpha1.GroupVersion.Group}}
	return changed(t, crd, func(c *apiextensionsv1.CustomResourceDefinition) {
		delete(c.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties, "rateLimit")
	}, func(now, was *apiextensionsv1.CustomResourceDefinition) { now.Spec = was.Spec })
}

func webhook(edit func(*admissionregistrationv1.WebhookClientConfig)) func(*testing.T) func() {
	return func(t *testing.T) func() {
		hook := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "orkestra"}}
		return changed(t, hook, func(h *admissionregistrationv1.ValidatingWebhookConfiguration) { edit(&h.Webhooks[0].ClientConfig) },
			func(now, was *admissionregistrationv1.ValidatingWebhookConfiguration) { now.Webhooks = was.Webhooks })
	}
}

func permissionTaken(t *testing.T) func() {
	return takeAway(t, request{"stager", stack.Namespace, "create", "source.toolkit.fluxcd.io", "helmcharts"}, "namespace")
}

// keeper is JetStream as who may change the streams, with nobody who changes them back.
func keeper(t *testing.T) (js jetstream.JetStream, resume func()) {
	t.Helper()
	resume = stopped("topology")(t)
	js, err := jetstream.New(natsAs(t, events.IdentityTopology, events.InboxOf(events.IdentityTopology)))
	must(t, err)
	return js, resume
}

func streamEdited(t *testing.T, name string, edit func(*jetstream.StreamConfig)) (was jetstream.StreamConfig, js jetstream.JetStream, resume func()) {
	t.Helper()
	js, resume = keeper(t)
	s, err := js.Stream(t.Context(), name)
	must(t, err)
	was = s.CachedInfo().Config
	now := was
	edit(&now)
	_, err = js.UpdateStream(t.Context(), now)
	must(t, err)
	return was, js, resume
}

// streamLimited is what an operator may do, and so nobody undoes.
func streamLimited(t *testing.T) func() {
	was, js, resume := streamEdited(t, events.StreamEvents, func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = time.Hour, time.Hour })
	return mendOnce(t, func(ctx context.Context) error {
		_, err := js.UpdateStream(ctx, was)
		resume()
		return err
	})
}

// streamChanged is undone by the process that keeps the streams.
func streamChanged(t *testing.T) func() {
	_, _, resume := streamEdited(t, events.StreamWaits, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 })
	return resume
}

func consumerChanged(t *testing.T) func() {
	js, resume := keeper(t)
	c, err := js.Consumer(t.Context(), events.StreamEvents, "compiler")
	must(t, err)
	config := c.CachedInfo().Config
	config.MaxDeliver = 3
	_, err = js.UpdateConsumer(t.Context(), events.StreamEvents, config)
	must(t, err)
	return resume
}

func busWiped(t *testing.T) func() {
	resume := stopped("topology")(t)
	killBus(t, func() error { return os.RemoveAll(filepath.Join(env.stack.Dir, "data", "nats")) })
	return resume
}

// deadLetter is of an event that nobody can read.
func deadLetter(t *testing.T) func() {
	nc := natsAs(t, events.IdentityOperator, "_INBOX")
	must(t, nc.Publish("orkestra.v1.group.nobody", []byte("no event")))
	must(t, nc.Flush())
	return mendOnce(t, func(context.Context) error {
		answers(t, 0, nil, "dlq", "discard", "--all", "--yes")
		return nil
	})
}

// withGroup makes a group while a controller is away.
func withGroup(name, controller string) func(*testing.T) func() {
	return func(t *testing.T) func() {
		s := serve(t)
		add(t, s, "small", "1.0.0", configMapChart())
		start := stopped(controller)(t)
		create(t, chain(name, s.URL, 1))
		// A cleanup that comes before that of create: deleting takes the controller.
		t.Cleanup(start)
		return func() {
			start()
			awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
			remove(t, name)
		}
	}
}

func registryAway(t *testing.T) func() {
	const name = "doctorregistry"
	create(t, chain(name, "http://127.0.0.1:1", 1))
	return func() { remove(t, name) }
}

func groupStays(t *testing.T) func() {
	const name = "doctorstays"
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	create(t, chain(name, s.URL, 1))
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	release := held(t, client.ObjectKey{Namespace: name, Name: "a0"})
	must(t, env.client.Delete(t.Context(), &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	return func() {
		release()
		remove(t, name)
	}
}

// receiverNotReady has no Secret.
func receiverNotReady(t *testing.T) func() {
	r := &v1alpha1.Receiver{ObjectMeta: metav1.ObjectMeta{Namespace: stack.Namespace, Name: "doctor"}}
	r.Spec = v1alpha1.ReceiverSpec{
		Type: v1alpha1.ReceiverGenericHMAC, SecretRef: v1alpha1.ReceiverSecretRef{Name: "there-is-none"},
		Groups: v1alpha1.ReceiverGroups{Names: []string{"nobody"}},
	}
	must(t, env.client.Create(t.Context(), r))
	return mendOnce(t, func(ctx context.Context) error { return env.client.Delete(ctx, r) })
}
