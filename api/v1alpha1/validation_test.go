package v1alpha1_test

import (
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

// application is a valid one; each option makes something of it.
func application(name string, options ...func(*v1alpha1.Application)) v1alpha1.Application {
	a := v1alpha1.Application{
		DAG: v1alpha1.DAG{Name: name},
		Spec: v1alpha1.ApplicationSpec{
			Chart:   v1alpha1.ChartRef{URL: "https://charts.example.com", Name: "podinfo", Version: "6.6.0"},
			Release: v1alpha1.Release{TargetNamespace: "default"},
		},
	}
	for _, option := range options {
		option(&a)
	}
	return a
}

func after(dependencies ...string) func(*v1alpha1.Application) {
	return func(a *v1alpha1.Application) { a.Dependencies = dependencies }
}

func subcharts(dags ...v1alpha1.DAG) func(*v1alpha1.Application) {
	return func(a *v1alpha1.Application) { a.Spec.Subcharts = dags }
}

func dag(name string, dependencies ...string) v1alpha1.DAG {
	return v1alpha1.DAG{Name: name, Dependencies: dependencies}
}

func workflow(executors ...v1alpha1.Executor) func(*v1alpha1.Application) {
	return func(a *v1alpha1.Application) { a.Spec.Workflow = executors }
}

func release(change func(*v1alpha1.Release)) func(*v1alpha1.Application) {
	return func(a *v1alpha1.Application) { change(&a.Spec.Release) }
}

func chart(change func(*v1alpha1.ChartRef)) func(*v1alpha1.Application) {
	return func(a *v1alpha1.Application) { change(&a.Spec.Chart) }
}

func version(v string) func(*v1alpha1.Application) {
	return chart(func(c *v1alpha1.ChartRef) { c.Version = v })
}

func group(applications ...v1alpha1.Application) *v1alpha1.ApplicationGroup {
	return &v1alpha1.ApplicationGroup{
		ObjectMeta: metav1.ObjectMeta{Name: "group"},
		Spec:       v1alpha1.ApplicationGroupSpec{Applications: applications},
	}
}

func duration(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

func TestValidateAccepts(t *testing.T) {
	cases := map[string]struct {
		reason string
		group  *v1alpha1.ApplicationGroup
	}{
		"Bookinfo": {
			reason: "the example of the original is valid",
			group: group(
				application("ambassador", after()),
				application("bookinfo", after("ambassador"), version("v1"), subcharts(
					dag("productpage", "reviews"), dag("reviews", "details", "ratings"), dag("ratings"), dag("details"))),
			),
		},
		"NoVersion":    {reason: "no version is the newest", group: group(application("a", version("")))},
		"Newest":       {reason: "the default is a range", group: group(application("a", version("*")))},
		"Range":        {reason: "a range is one as Helm reads it", group: group(application("a", version(">=1.2.0-0 <2 || ^3")))},
		"Metadata":     {reason: "a version has build metadata", group: group(application("a", version("1.0.0+orkestra.1a2b3c4d")))},
		"VersionWithV": {reason: "a tag such as v1 is an exact version to Helm", group: group(application("a", version("v1")))},
		"OCI": {
			reason: "an OCI registry is a repository, with a port and a path",
			group:  group(application("a", chart(func(c *v1alpha1.ChartRef) { c.URL = "oci://registry.example.com:5000/charts" }))),
		},
		"DependencyTwice": {
			reason: "to say a dependency twice is to say it once",
			group:  group(application("a"), application("b", after("a", "a"))),
		},
		"NotDNS": {
			reason: "a name need not be a DNS name",
			group:  group(application("My_App.v2", subcharts(dag("Sub_1")))),
		},
		"SubchartNamedAsApplication": {
			reason: "a subchart may be named like its application",
			group:  group(application("redis", subcharts(dag("redis")))),
		},
		"SameReleaseInTwoNamespaces": {
			reason: "two releases of one name are two objects in two namespaces",
			group: group(
				application("a", subcharts(dag("b"))),
				application("a-b", release(func(r *v1alpha1.Release) { r.TargetNamespace = "other" })),
			),
		},
		"SameSubchart": {
			reason: "two applications may have a subchart of the same name",
			group:  group(application("a", subcharts(dag("redis"))), application("b", subcharts(dag("redis")))),
		},
		"NullValues": {
			reason: "values that are left empty in YAML are none",
			group: group(application("a", release(func(r *v1alpha1.Release) {
				r.Values = &apiextensionsv1.JSON{Raw: []byte("null")}
			}))),
		},
		"KeptnWithoutImage": {
			reason: "only a custom executor has to bring its container",
			group:  group(application("a", workflow(v1alpha1.Executor{DAG: dag("k"), Type: v1alpha1.ExecutorKeptn}))),
		},
		"NoTimeout": {
			reason: "a timeout of nothing is the default",
			group:  group(application("a", release(func(r *v1alpha1.Release) { r.Timeout = duration(0) }))),
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if errs := tc.group.Validate(); len(errs) > 0 {
				t.Errorf("%s: %v", tc.reason, errs.ToAggregate())
			}
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	long := strings.Repeat("n", 64)
	cases := map[string]struct {
		reason string
		group  *v1alpha1.ApplicationGroup
		want   []string
	}{
		"NoApplications": {
			reason: "a group of nothing is a mistake",
			group:  group(),
			want:   []string{`spec.applications: Required value: a group has at least one application`},
		},
		"LongGroupName": {
			reason: "a name that is no label value would fail later, on every object that is made",
			group: func() *v1alpha1.ApplicationGroup {
				g := group(application("a"))
				g.Name = long
				return g
			}(),
			want: []string{`metadata.name: Invalid value: "` + long + `": may have at most 63 characters, because it becomes the value of a label`},
		},
		"Names": {
			reason: "the schema's rules on names hold without a schema",
			group:  group(application(""), application("_"), application("a b"), application(long)),
			want: []string{
				`spec.applications[0].name: Required value: give it a name`,
				`spec.applications[1].name: Invalid value: "_": must have a letter or a digit, because it becomes part of object names`,
				`spec.applications[2].name: Invalid value: "a b": may have letters, digits, "-", "_" and ".", and begins and ends with a letter or a digit`,
				`spec.applications[3].name: Too long: may not be more than 63 bytes`,
			},
		},
		"Duplicate": {
			reason: "a name says which entry it is",
			group:  group(application("a"), application("b"), application("a")),
			want:   []string{`spec.applications[2].name: Duplicate value: "a": spec.applications[0] has the same name: rename one of them`},
		},
		"DNSEqual": {
			reason: "names that differ only in what a DNS name cannot show would share their objects",
			group:  group(application("Foo_a"), application("foo-a")),
			want: []string{
				`spec.applications[1].name: Duplicate value: "foo-a": spec.applications[0] is "Foo_a", and both become "foo-a" in the names of objects: rename one of them`,
			},
		},
		"UnknownApplication": {
			reason: "the field, the name and what there is are said",
			group:  group(application("a"), application("b", after("a", "c"))),
			want: []string{
				`spec.applications[1].dependencies[1]: Invalid value: "c": is not an application of the group: add it, or remove the dependency; there are "a", "b"`,
			},
		},
		"ApplicationCycle": {
			reason: "a cycle is spelled out",
			group:  group(application("a", after("b")), application("b", after("c")), application("c", after("a"))),
			want: []string{
				`spec.applications: Invalid value: "a -> b -> c -> a": each of these waits for the next, so that none can start: remove one of the dependencies`,
			},
		},
		"Subcharts": {
			reason: "subcharts are a graph of their own: an application is not in it",
			group: group(application("z"), application("a", subcharts(
				dag("b", "z"), dag("c", "c"), dag("c")))),
			want: []string{
				`spec.applications[1].spec.subcharts[2].name: Duplicate value: "c": spec.applications[1].spec.subcharts[1] has the same name: rename one of them`,
				`spec.applications[1].spec.subcharts[0].dependencies[0]: Invalid value: "z": is not an entry of subcharts: add it, or remove the dependency; there are "b", "c"`,
				`spec.applications[1].spec.subcharts: Invalid value: "c -> c": each of these waits for the next, so that none can start: remove one of the dependencies`,
			},
		},
		"Workflow": {
			reason: "executors are a graph too, and a custom one has a container",
			group: group(application("a", workflow(
				v1alpha1.Executor{DAG: dag("one", "two")},
				v1alpha1.Executor{DAG: dag("two", "one"), Type: v1alpha1.ExecutorCustom},
				v1alpha1.Executor{DAG: dag("three", "four"), Type: v1alpha1.ExecutorCustom, Image: &corev1.Container{Name: "c"}},
				v1alpha1.Executor{DAG: dag("five"), Type: "helm"},
			))),
			want: []string{
				`spec.applications[0].spec.workflow[1].image: Required value: a custom executor runs a container: say which, or leave out the type`,
				`spec.applications[0].spec.workflow[2].image.image: Required value: name the image that the container of a custom executor runs`,
				`spec.applications[0].spec.workflow[3].type: Unsupported value: "helm": supported values: "helmrelease", "keptn", "custom", "job", "wait"`,
				`spec.applications[0].spec.workflow[2].dependencies[0]: Invalid value: "four": is not an entry of workflow: add it, or remove the dependency; there are "five", "one", "three", "two"`,
				`spec.applications[0].spec.workflow: Invalid value: "one -> two -> one": each of these waits for the next, so that none can start: remove one of the dependencies`,
			},
		},
		"OneHelmReleaseForTwo": {
			reason: "two releases that would be one object are refused, with both fields named",
			group:  group(application("a", subcharts(dag("b"))), application("a-b")),
			want: []string{
				`spec.applications[1].name: Duplicate value: "a-b": becomes the HelmRelease "a-b" in namespace "default", and so does spec.applications[0].spec.subcharts[0]: rename one of them, or give one application another targetNamespace`,
			},
		},
		"OneTaskForTwo": {
			reason: "what tells a subchart that is named like its application from it may not be another's name",
			group:  group(application("a", subcharts(dag("a"), dag("a-subchart")))),
			want: []string{
				`spec.applications[0].spec.subcharts[1].name: Duplicate value: "a-subchart": becomes the task "a-a-subchart" of the workflow, and so does spec.applications[0].spec.subcharts[0]: rename one of them`,
			},
		},
		"Chart": {
			reason: "a chart has a name, a place and a version that Helm can read",
			group: group(application("a", chart(func(c *v1alpha1.ChartRef) {
				*c = v1alpha1.ChartRef{Version: "latest", AuthSecretRef: &corev1.ObjectReference{Kind: "ConfigMap"}}
			}))),
			want: []string{
				`spec.applications[0].spec.chart.name: Required value: name the chart`,
				`spec.applications[0].spec.chart.url: Required value: say which repository has the chart, such as https://charts.example.com`,
				`spec.applications[0].spec.chart.version: Invalid value: "latest": is neither a version nor a range of versions: write one such as 1.2.3, v1, ">=1.2.0 <2" or "*"`,
				`spec.applications[0].spec.chart.authSecretRef.name: Required value: name the Secret`,
				`spec.applications[0].spec.chart.authSecretRef.kind: Unsupported value: "ConfigMap": supported values: "Secret"`,
			},
		},
		"URLs": {
			reason: "a repository is reached over http, https or oci",
			group: group(
				application("a", chart(func(c *v1alpha1.ChartRef) { c.URL = "charts.example.com" })),
				application("b", chart(func(c *v1alpha1.ChartRef) { c.URL = "file:///charts" })),
				application("c", chart(func(c *v1alpha1.ChartRef) { c.URL = "https://:8080/charts" })),
				application("d", chart(func(c *v1alpha1.ChartRef) { c.URL = "https://a\x7fb" })),
			),
			want: []string{
				`spec.applications[0].spec.chart.url: Invalid value: "charts.example.com": must begin with https://, http:// or oci://`,
				`spec.applications[1].spec.chart.url: Invalid value: "file:///charts": must begin with https://, http:// or oci://`,
				`spec.applications[2].spec.chart.url: Invalid value: "https://:8080/charts": has no host: it should look like https://charts.example.com`,
				`spec.applications[3].spec.chart.url: Invalid value: "https://a\x7fb": is not a URL: parse "https://a\x7fb": net/url: invalid control character in URL`,
			},
		},
		"Release": {
			reason: "a release has a namespace, values that are an object, and no negative times",
			group: group(
				application("a", release(func(r *v1alpha1.Release) { r.TargetNamespace = "" })),
				application("b", release(func(r *v1alpha1.Release) {
					r.TargetNamespace = "Not_DNS"
					r.Values = &apiextensionsv1.JSON{Raw: []byte(`["a"]`)}
					r.Interval, r.Timeout = *duration(-1), duration(-1)
					r.Install = &helmv2.Install{Timeout: duration(-time.Second)}
					r.Upgrade = &helmv2.Upgrade{Timeout: duration(-time.Second)}
					r.Rollback = &helmv2.Rollback{Timeout: duration(-time.Second)}
					r.Uninstall = &helmv2.Uninstall{Timeout: duration(-time.Second)}
					r.Test = &helmv2.Test{Timeout: duration(-time.Second)}
				})),
			),
			want: []string{
				`spec.applications[0].spec.release.targetNamespace: Required value: say where to install the release`,
				`spec.applications[1].spec.release.targetNamespace: Invalid value: "Not_DNS": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`,
				`spec.applications[1].spec.release.values: Invalid value: "[\"a\"]": must be an object, as in a values.yaml`,
				`spec.applications[1].spec.release.interval: Invalid value: "-1ns": must not be negative: leave it out to have the default`,
				`spec.applications[1].spec.release.timeout: Invalid value: "-1ns": must not be negative: leave it out to have the default`,
				`spec.applications[1].spec.release.install.timeout: Invalid value: "-1s": must not be negative: leave it out to have the default`,
				`spec.applications[1].spec.release.upgrade.timeout: Invalid value: "-1s": must not be negative: leave it out to have the default`,
				`spec.applications[1].spec.release.rollback.timeout: Invalid value: "-1s": must not be negative: leave it out to have the default`,
				`spec.applications[1].spec.release.uninstall.timeout: Invalid value: "-1s": must not be negative: leave it out to have the default`,
				`spec.applications[1].spec.release.test.timeout: Invalid value: "-1s": must not be negative: leave it out to have the default`,
			},
		},
		"Proof": {
			reason: "a proof has a provider that fits the registry, and keys",
			group: group(
				application("a", chart(func(c *v1alpha1.ChartRef) {
					c.Digest = "sha256:abc"
					c.Verify = &v1alpha1.ChartVerification{Provider: v1alpha1.VerifyCosign}
				})),
				application("b", chart(func(c *v1alpha1.ChartRef) { c.Verify = &v1alpha1.ChartVerification{Provider: "pgp"} })),
			),
			want: []string{
				`spec.applications[0].spec.chart.digest: Invalid value: "sha256:abc": must be sha256: and 64 hexadecimal digits, as sha256sum prints them`,
				`spec.applications[0].spec.chart.verify.provider: Invalid value: "Cosign": signatures of cosign are in OCI registries only: use Provenance, or an oci:// URL`,
				`spec.applications[0].spec.chart.verify.secretRef.name: Required value: name the Secret with the public keys to trust`,
				`spec.applications[1].spec.chart.verify.provider: Unsupported value: "pgp": supported values: "Provenance", "Cosign"`,
				`spec.applications[1].spec.chart.verify.secretRef.name: Required value: name the Secret with the public keys to trust`,
			},
		},
		"Gates": {
			reason: "a step that gates says what it runs or waits for, and does not stand for the release",
			group: group(
				application("a", workflow(
					v1alpha1.Executor{DAG: dag("one"), Type: v1alpha1.ExecutorJob, Job: &apiextensionsv1.JSON{Raw: []byte(`{"template":{"spec":{"image":"x"}}}`)}},
					v1alpha1.Executor{DAG: dag("two"), Type: v1alpha1.ExecutorJob, Job: &apiextensionsv1.JSON{Raw: []byte(`{"template":{}}`)}},
					v1alpha1.Executor{DAG: dag("three"), Type: v1alpha1.ExecutorWait, Wait: &v1alpha1.WaitFor{APIVersion: "a/b/c"}, Timeout: duration(-1)},
				)),
				application("b", workflow(
					v1alpha1.Executor{DAG: dag("one"), Wait: &v1alpha1.WaitFor{}, Job: &apiextensionsv1.JSON{}},
					v1alpha1.Executor{DAG: dag("two"), Type: v1alpha1.ExecutorJob},
					v1alpha1.Executor{DAG: dag("three"), Type: v1alpha1.ExecutorWait},
				)),
			),
			want: []string{
				`spec.applications[0].spec.workflow: Invalid value: "one": no step installs the release: add an executor of type helmrelease`,
				`spec.applications[0].spec.workflow[0].job: Invalid value: is not the spec of a Job: json: unknown field "image"`,
				`spec.applications[0].spec.workflow[1].job.template.spec.containers: Required value: say what the Job runs`,
				`spec.applications[0].spec.workflow[2].timeout: Invalid value: "-1ns": must not be negative: leave it out to have the default`,
				`spec.applications[0].spec.workflow[2].wait.apiVersion: Invalid value: "a/b/c": must look like v1 or apps/v1`,
				`spec.applications[0].spec.workflow[2].wait.kind: Required value: say of which kind the object is, such as Deployment`,
				`spec.applications[0].spec.workflow[2].wait.name: Required value: name the object to wait for`,
				`spec.applications[1].spec.workflow[0].job: Forbidden: only an executor of type job has one`,
				`spec.applications[1].spec.workflow[0].wait: Forbidden: only an executor of type wait has one`,
				`spec.applications[1].spec.workflow[1].job: Required value: an executor of type job runs a Job: give its spec`,
				`spec.applications[1].spec.workflow[2].wait: Required value: an executor of type wait waits for an object: say for which`,
			},
		},
		"Policies": {
			reason: "what is chosen from a list is on it",
			group: func() *v1alpha1.ApplicationGroup {
				g := group(application("a", release(func(r *v1alpha1.Release) {
					r.ValuesFrom = []helmv2.ValuesReference{{Kind: "Pod"}}
					r.MaxHistory = new(-1)
				})))
				g.Spec.NamespaceDeletionPolicy, g.Spec.Executor = "Sometimes", "vm"
				g.Spec.Remediation = &v1alpha1.Remediation{Strategy: "Hope", Retries: 11}
				g.Spec.Applications[0].Spec.ParentPlacement, g.Spec.Applications[0].Spec.Executor = "Under", "vm"
				return g
			}(),
			want: []string{
				`spec.namespaceDeletionPolicy: Unsupported value: "Sometimes": supported values: "Keep", "Delete"`,
				`spec.executor: Unsupported value: "vm": supported values: "event", "pod"`,
				`spec.remediation.strategy: Unsupported value: "Hope": supported values: "Rollback", "Reverse", "None"`,
				`spec.remediation.retries: Invalid value: 11: must be from 0 to 10`,
				`spec.applications[0].spec.release.valuesFrom[0].kind: Unsupported value: "Pod": supported values: "ConfigMap", "Secret"`,
				`spec.applications[0].spec.release.valuesFrom[0].name: Required value: name the Pod`,
				`spec.applications[0].spec.release.maxHistory: Invalid value: -1: must not be negative: 0 keeps all records`,
				`spec.applications[0].spec.parentPlacement: Unsupported value: "Under": supported values: "After", "Before", "Beside"`,
				`spec.applications[0].spec.executor: Unsupported value: "vm": supported values: "event", "pod"`,
			},
		},
		"Interval": {
			reason: "nor has a group a negative interval",
			group: func() *v1alpha1.ApplicationGroup {
				g := group(application("a"))
				g.Spec.Interval = duration(-time.Minute)
				return g
			}(),
			want: []string{`spec.interval: Invalid value: "-1m0s": must not be negative: leave it out to have the default`},
		},
		"ManyNames": {
			reason: "of many names a message shows as many as anybody reads",
			group: group(application("a", subcharts(dag("s", "nobody"), dag("s0"), dag("s1"), dag("s2"), dag("s3"), dag("s4"),
				dag("s5"), dag("s6"), dag("s7"), dag("s8"), dag("s9")))),
			want: []string{
				`spec.applications[0].spec.subcharts[0].dependencies[0]: Invalid value: "nobody": is not an entry of subcharts: add it, or remove the dependency; there are "s", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8" and 1 more`,
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, err := range tc.group.Validate() {
				got = append(got, err.Error())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
