package doctor_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	fluxmeta "github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/doctor"
	"orkestra.dev/pkg/events"
)

const deploy = "../../../deploy"

var now = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

// wanted are the CRDs as a healthy cluster has them: ours are those of this release.
func wanted(t *testing.T) []apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	established := []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue}}
	var out []apiextensionsv1.CustomResourceDefinition
	for _, name := range doctor.CRDs() {
		crd := apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if plural, ok := strings.CutSuffix(name, "."+v1alpha1.GroupVersion.Group); ok {
			raw, err := os.ReadFile(filepath.Join(deploy, "crds", v1alpha1.GroupVersion.Group+"_"+plural+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if err := yaml.UnmarshalStrict(raw, &crd); err != nil {
				t.Fatal(err)
			}
		} else {
			for _, version := range []string{"v1", "v2", "v1alpha1"} {
				crd.Spec.Versions = append(crd.Spec.Versions, apiextensionsv1.CustomResourceDefinitionVersion{Name: version, Served: true})
			}
		}
		crd.Status.Conditions = established
		out = append(out, crd)
	}
	return out
}

// meta of an object that was made long ago, with a generation that somebody may have seen.
func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "orkestra", Name: name, Generation: 2, CreationTimestamp: ago(24 * time.Hour), Labels: map[string]string{v1alpha1.LabelOwner: "shop"}}
}

func condition(kind string, status metav1.ConditionStatus, reason string, since time.Duration) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: "it says why", ObservedGeneration: 2, LastTransitionTime: ago(since)}
}

// healthy is an installation with a bit of everything, and nothing wrong.
func healthy(t *testing.T) doctor.Facts {
	t.Helper()
	f := doctor.Facts{Program: "orkestra", Namespace: "orkestra", Now: now, StuckAfter: 30 * time.Minute}
	f.Server.Value = doctor.Server{Version: "v1.34.4", Ahead: time.Second}
	f.CRDs.Value = wanted(t)
	for _, name := range []string{"intake", "stager", "compiler", "executor", "watcher", "workflow-controller"} {
		f.Workloads.Value = append(f.Workloads.Value, doctor.Workload{Kind: "Deployment", Namespace: "orkestra", Name: "orkestra-" + name, Component: name,
			Ours: true, Desired: 2, Ready: 2, Image: "registry.example.com:5000/" + name + ":v1@sha256:00", Env: map[string]string{"DEFAULT_REQUEUE_TIME": "100ms"}})
	}
	f.Bus.Value = events.TopologyState{
		Streams:   []events.StreamCondition{{Name: "ORKESTRA", Messages: 7, MaxAge: 720 * time.Hour, WantAge: 720 * time.Hour}, {Name: "ORKESTRA_DLQ"}},
		Consumers: []events.ConsumerCondition{{Name: "stager", Waiting: 4}},
	}
	f.Admission.Value = doctor.Admission{Refusal: "denied: spec.applications: a -> b -> a", Webhooks: []doctor.Webhook{{Name: "validate"}, {Name: "stamp", Mutating: true}}}
	for _, name := range doctor.Policies() {
		f.Policies.Value = append(f.Policies.Value, doctor.Policy{Name: name, Denies: true})
	}
	f.Access.Value = []doctor.Access{{Service: "stager", Account: "orkestra-stager"}}
	g := v1alpha1.ApplicationGroup{ObjectMeta: meta("shop")}
	g.Status.Conditions = []metav1.Condition{condition("Accepted", "True", "Accepted", time.Hour), condition("Ready", "True", "Succeeded", time.Hour)}
	f.Groups.Value = []v1alpha1.ApplicationGroup{g}
	f.Receivers.Value = []v1alpha1.Receiver{{ObjectMeta: meta("ci"), Status: v1alpha1.ReceiverStatus{Conditions: []metav1.Condition{condition("Ready", "True", "Ready", 0)}}}}
	f.Workflows.Value = []wfv1.Workflow{{ObjectMeta: meta("shop-1"), Status: wfv1.WorkflowStatus{Phase: wfv1.WorkflowSucceeded}}}
	f.Releases.Value = []helmv2.HelmRelease{{ObjectMeta: meta("web"), Status: helmv2.HelmReleaseStatus{ObservedGeneration: 2}}}
	f.Charts.Value = []sourcev1.HelmChart{{ObjectMeta: meta("shop-web"), Status: sourcev1.HelmChartStatus{
		ObservedGeneration: 2, Artifact: &fluxmeta.Artifact{}, Conditions: []metav1.Condition{condition("Ready", "True", "Succeeded", time.Hour)},
	}}}
	f.Secrets.Value = []metav1.PartialObjectMetadata{{ObjectMeta: meta("shop-values")}}
	return f
}

func TestNothingIsFoundWhereNothingIsWrong(t *testing.T) {
	r := doctor.Examine(healthy(t))
	if len(r.Findings) > 0 || r.Worst() != doctor.OK {
		t.Errorf("found: %+v", r.Findings)
	}
}

func TestFindings(t *testing.T) {
	group := func(f *doctor.Facts) *v1alpha1.ApplicationGroup { return &f.Groups.Value[0] }
	for name, tc := range map[string]struct {
		reason string
		wrong  func(*doctor.Facts)
		want   []string
		level  doctor.Level
	}{
		"OldKubernetes":  {"it has no admission policies", func(f *doctor.Facts) { f.Server.Value.Version = "v1.29.3+k3s1" }, []string{"kubernetes-old"}, doctor.Problem},
		"Skew":           {"a clock that is off is worth a word", func(f *doctor.Facts) { f.Server.Value.Ahead = -time.Minute }, []string{"clock-skew"}, doctor.Warning},
		"NoCRD":          {"nothing works without", func(f *doctor.Facts) { f.CRDs.Value = f.CRDs.Value[1:] }, []string{"crd-missing"}, doctor.Problem},
		"NotEstablished": {"a CRD that is not served is none", func(f *doctor.Facts) { f.CRDs.Value[2].Status.Conditions = nil }, []string{"crd-not-established"}, doctor.Problem},
		"OtherVersion":   {"Flux before 2.3", func(f *doctor.Facts) { f.CRDs.Value[4].Spec.Versions[1].Served = false }, []string{"crd-version"}, doctor.Problem},
		"OldCRD":         {"fields deep in the schema count", forget("spec", "applications", "spec", "chart", "verify"), []string{"crd-old"}, doctor.Problem},
		"NotReady":       {"a Deployment without a pod does nothing", func(f *doctor.Facts) { f.Workloads.Value[0].Ready = 0 }, []string{"workload-not-ready"}, doctor.Problem},
		"OneOfTwo":       {"one replica is enough, and not what was asked for", func(f *doctor.Facts) { f.Workloads.Value[0].Ready = 1 }, []string{"workload-short"}, doctor.Warning},
		"ScaledDown":     {"nobody is there", func(f *doctor.Facts) { f.Workloads.Value[1].Desired = 0 }, []string{"workload-scaled-down"}, doctor.Problem},
		"NoWatcher":      {"a part of the pipeline is missing", func(f *doctor.Facts) { f.Workloads.Value = slices.Delete(f.Workloads.Value, 4, 5) }, []string{"service-missing"}, doctor.Problem},
		"ProbeFails":     {"a service says that it waits", func(f *doctor.Facts) { f.Probes = []doctor.Probe{{Name: "intake", Err: errors.New("503")}} }, []string{"service-not-ready"}, doctor.Problem},
		"NoChartMuseum":  {"it is no service of ours", func(f *doctor.Facts) { f.Probes = []doctor.Probe{{Name: doctor.Shelf, Err: errors.New("503")}} }, []string{"chartmuseum-unreachable"}, doctor.Problem},
		"BusAway":        {"where it was said to be", func(f *doctor.Facts) { f.Bus.Err, f.BusGiven = errors.New("no servers"), true }, []string{"bus-unreachable"}, doctor.Problem},
		"BusNotSeen":     {"where it is by default, and need not be", func(f *doctor.Facts) { f.Bus.Err = errors.New("no servers") }, []string{"bus-not-seen"}, doctor.Unknown},
		"StorageFull":    {"80 percent is near", func(f *doctor.Facts) { f.Bus.Value.StoreBytes, f.Bus.Value.StoreLimit = 80, 100 }, []string{"storage-full"}, doctor.Problem},
		"StreamFull":     {"the oldest go", func(f *doctor.Facts) { f.Bus.Value.Streams[0].MaxMessages = 8 }, []string{"stream-full"}, doctor.Problem},
		"StreamForgets":  {"less than a day is too short", func(f *doctor.Facts) { f.Bus.Value.Streams[0].MaxAge = time.Hour }, []string{"stream-forgetful"}, doctor.Problem},
		"NoStream": {"nothing else is said of it", func(f *doctor.Facts) {
			f.Bus.Value.Streams[0] = events.StreamCondition{Name: "ORKESTRA", Missing: true}
		}, []string{"stream-missing"}, doctor.Problem},
		"NoLeader":      {"a stream without a leader stores nothing", func(f *doctor.Facts) { f.Bus.Value.Streams[0].Leaderless = true }, []string{"stream-leaderless"}, doctor.Problem},
		"ReplicaBehind": {"it works on", func(f *doctor.Facts) { f.Bus.Value.Streams[0].Behind = []string{"n2"} }, []string{"stream-behind"}, doctor.Warning},
		"Nobody":        {"nobody asks, and nobody has any", func(f *doctor.Facts) { f.Bus.Value.Consumers[0].Waiting = 0 }, []string{"consumer-away"}, doctor.Problem},
		"Busy":          {"nobody asks, and somebody may be at work", func(f *doctor.Facts) { f.Bus.Value.Consumers[0].Waiting, f.Bus.Value.Consumers[0].InHand = 0, 3 }, []string{"consumer-busy"}, doctor.Warning},
		"BusyReplica": {"one of two is at work", func(f *doctor.Facts) {
			f.Bus.Value.Consumers[0].Waiting, f.Bus.Value.Consumers[0].InHand = 0, 3
			f.Probes = []doctor.Probe{{Name: "stager", Err: errors.New("refused")}, {Name: "stager_2"}}
			f.Workloads.Value = nil
		}, []string{"service-not-ready", "consumer-busy"}, doctor.Problem},
		"Gone": {"what waits to be tried again is in nobody's hand", func(f *doctor.Facts) {
			f.Bus.Value.Consumers[0].Waiting, f.Bus.Value.Consumers[0].InHand = 0, 1
			f.Probes = []doctor.Probe{{Name: "stager", Err: errors.New("refused")}, {Name: "stager_2", Err: errors.New("refused")}}
			f.Workloads.Value = nil
		}, []string{"service-not-ready", "service-not-ready", "consumer-away"}, doctor.Problem},
		"GonePods": {"nor where no pod is ready", func(f *doctor.Facts) {
			f.Bus.Value.Consumers[0].Waiting, f.Bus.Value.Consumers[0].InHand = 0, 1
			f.Workloads.Value[1].Ready = 0
		}, []string{"workload-not-ready", "consumer-away"}, doctor.Problem},
		"Letters":      {"the group they are about waits", func(f *doctor.Facts) { f.Bus.Value.Streams[1].Messages = 2 }, []string{"dead-letters"}, doctor.Problem},
		"Denied":       {"a right that is needed", func(f *doctor.Facts) { f.Access.Value[0].Denied = []doctor.Need{{Verb: "list", Resource: "secrets"}} }, []string{"permission-missing"}, doctor.Problem},
		"NoAccount":    {"services may run as somebody else", func(f *doctor.Facts) { f.Access.Value[0].Missing = true }, []string{"account-missing"}, doctor.Unknown},
		"Taken":        {"the webhook was not asked", func(f *doctor.Facts) { f.Admission.Value.Refusal = "" }, []string{"webhook-unreachable"}, doctor.Problem},
		"NoWebhook":    {"there is none to ask", func(f *doctor.Facts) { f.Admission.Value = doctor.Admission{} }, []string{"webhook-missing"}, doctor.Problem},
		"OtherRefusal": {"who may not create groups cannot tell", func(f *doctor.Facts) { f.Admission.Value.Refusal = "forbidden" }, []string{"webhook-not-asked"}, doctor.Unknown},
		"NoPolicy":     {"the fence", func(f *doctor.Facts) { f.Policies.Value = f.Policies.Value[1:] }, []string{"policy-missing"}, doctor.Problem},
		"Unbound":      {"a policy without a binding does nothing", func(f *doctor.Facts) { f.Policies.Value[0].Denies = false }, []string{"policy-unbound"}, doctor.Problem},
		"ArgoSilent":   {"a workflow that nobody has begun", func(f *doctor.Facts) { f.Workflows.Value[0].Status.Phase = "" }, []string{"argo-silent"}, doctor.Problem},
		"ArgoJustMade": {"a workflow that was made just now", func(f *doctor.Facts) {
			f.Workflows.Value[0].Status.Phase, f.Workflows.Value[0].CreationTimestamp = "", ago(time.Second)
		}, nil, doctor.OK},
		"ArgoSlow":   {"its own default is slow", func(f *doctor.Facts) { f.Workloads.Value[5].Env = nil }, []string{"argo-slow"}, doctor.Warning},
		"HelmSilent": {"a generation that was not looked at", func(f *doctor.Facts) { f.Releases.Value[0].Status.ObservedGeneration = 1 }, []string{"helm-silent"}, doctor.Problem},
		"HelmAtWork": {"a long upgrade shows in a condition", func(f *doctor.Facts) {
			f.Releases.Value[0].Status.ObservedGeneration, f.Releases.Value[0].Status.Conditions = 1, []metav1.Condition{condition("Reconciling", "True", "Progressing", time.Minute)}
		}, nil, doctor.OK},
		"NoArtifact": {"somebody has resumed a chart", func(f *doctor.Facts) { f.Charts.Value[0].Status.Artifact = nil }, []string{"chart-not-served"}, doctor.Problem},
		"NotOffered": {"its generation is another", func(f *doctor.Facts) { f.Charts.Value[0].Status.ObservedGeneration = 1 }, []string{"chart-not-served"}, doctor.Problem},
		"JustMade": {"it may be in the making", func(f *doctor.Facts) {
			f.Charts.Value[0].Status.Artifact, f.Charts.Value[0].CreationTimestamp = nil, ago(time.Second)
		}, nil, doctor.OK},
		"IntakeSilent":  {"a generation that nobody has accepted or refused", func(f *doctor.Facts) { group(f).Generation = 3 }, []string{"intake-silent"}, doctor.Problem},
		"WatcherSilent": {"a generation that nobody has summed up", func(f *doctor.Facts) { group(f).Status.Conditions[1].ObservedGeneration = 1 }, []string{"watcher-silent"}, doctor.Problem},
		"Stuck": {"longer than it may take", func(f *doctor.Facts) {
			group(f).Status.Conditions = []metav1.Condition{condition("Accepted", "True", "", 0), condition("Ready", "False", "Progressing", 0), condition("Reconciling", "True", "", time.Hour)}
		}, []string{"group-stuck"}, doctor.Problem},
		"Failed": {"its author's to mend", func(f *doctor.Facts) {
			group(f).Status.Conditions = []metav1.Condition{condition("Accepted", "True", "", 0), condition("Ready", "False", "WorkflowFailed", 0), condition("Stalled", "True", "", 0)}
		}, []string{"group-failed"}, doctor.Warning},
		"Stays":     {"longer than it may take to go", func(f *doctor.Facts) { group(f).DeletionTimestamp = new(ago(time.Hour)) }, []string{"group-stays"}, doctor.Problem},
		"Suspended": {"what is held is not stuck", func(f *doctor.Facts) { group(f).Spec.Suspend, group(f).Generation = true, 3 }, nil, doctor.OK},
		"RegistryAway": {"the stager tries again", func(f *doctor.Facts) {
			group(f).Status.Conditions = append(group(f).Status.Conditions, condition("Staged", "False", "RepositoryUnreachable", 0))
		}, []string{"registry-unreachable"}, doctor.Problem},
		"Receiver": {"it says why it hears nothing", func(f *doctor.Facts) { f.Receivers.Value[0].Status.Conditions[0].Status = "False" }, []string{"receiver-not-ready"}, doctor.Problem},
		"Orphans":  {"their group is gone", func(f *doctor.Facts) { f.Groups.Value = nil }, []string{"left-behind"}, doctor.Warning},
	} {
		t.Run(name, func(t *testing.T) {
			f := healthy(t)
			tc.wrong(&f)
			r := doctor.Examine(f)
			var names []string
			for _, found := range r.Findings {
				names = append(names, found.Name)
				if found.What == "" || found.Why == "" || found.Do == "" {
					t.Errorf("a finding without what, why or do: %+v", found)
				}
			}
			if diff := cmp.Diff(tc.want, names); diff != "" || r.Worst() != tc.level {
				t.Errorf("%s: worst %s, want %s; findings (-want +got):\n%s", tc.reason, r.Worst(), tc.level, diff)
			}
		})
	}
}

// forget a field of the groups' CRD.
func forget(path ...string) func(*doctor.Facts) {
	return func(f *doctor.Facts) {
		schema := f.CRDs.Value[0].Spec.Versions[0].Schema.OpenAPIV3Schema
		for _, name := range path[:len(path)-1] {
			next := schema.Properties[name]
			if schema = &next; next.Items != nil {
				schema = next.Items.Schema
			}
		}
		delete(schema.Properties, path[len(path)-1])
	}
}

func TestWhatCannotBeSeenIsSaid(t *testing.T) {
	away := errors.New("no answer within 10s")
	f := doctor.Facts{Now: now}
	f.Server.Err, f.CRDs.Err, f.Workloads.Err, f.Bus.Err, f.Admission.Err, f.Policies.Err, f.Access.Err = away, away, away, away, away, away, away
	f.Groups.Err, f.Receivers.Err, f.Workflows.Err, f.Releases.Err, f.Charts.Err, f.Secrets.Err = away, away, away, away, away, away
	r := doctor.Examine(f)
	if r.Worst() != doctor.Unknown {
		t.Errorf("nothing could be seen, and the worst is %s: %+v", r.Worst(), r.Findings)
	}
}

// Nothing is wider than the page, whatever the cluster says.
func TestThePageIsNarrow(t *testing.T) {
	f := healthy(t)
	f.Bus.Value.Streams[1].Messages = 2
	f.Probes = []doctor.Probe{{Name: "intake", URL: "http://127.0.0.1:1/readyz", Err: errors.New(strings.Repeat("word \x1b[31m", 50))}}
	f.Workloads.Value[5].Image = "registry.example.com/argo:" + strings.Repeat("v", 100)
	var b bytes.Buffer
	if err := doctor.Write(&b, doctor.Examine(f)); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > doctor.Width {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"✗ dead-letters:", "✗ service-not-ready: intake", "orkestra dlq list", "2 wrong, 0 not seen, 0 to know of."} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the page does not say %q:\n%s", want, &b)
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("what a service said reaches the terminal as it is")
	}
}

// What the doctor thinks that services need is what the chart gives them.
func TestNeedsAreTheCharts(t *testing.T) {
	for _, account := range doctor.Accounts {
		chart, err := os.ReadFile(filepath.Join(deploy, "charts", "orkestra", "rbac", account+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		copied, err := os.ReadFile(filepath.Join("needs", account+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(chart, copied) {
			t.Errorf("the rules of %s have changed: run go generate in this folder", account)
		}
		if needs, err := doctor.Needs(account, "orkestra"); err != nil || len(needs) == 0 {
			t.Errorf("the needs of %s: %d, %v", account, len(needs), err)
		}
	}
}
