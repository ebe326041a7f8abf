package executor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/executor/execute"
)

// podOf is a pod for the release web on a cluster, with short times.
func podOf(c *cluster, action plan.Action) *pod {
	hr := release("web")
	hr.Spec.Timeout = &metav1.Duration{Duration: time.Minute}
	hr.Spec.StorageNamespace = "storage-web"
	owner := execute.Owner{Rollout: rollout, Workflow: wfName, WorkflowUID: "uid-wf"}
	node := plan.Node{Task: "web.web", Action: action, Release: hr}
	return newPod(c.WithWatch, owner, node, time.Minute, 10*time.Millisecond, slog.New(slog.DiscardHandler))
}

// helmController makes the release ready as soon as it is written.
func helmController(ctx context.Context, c client.WithWatch, o client.Object) error {
	hr, ok := o.(*helmv2.HelmRelease)
	if !ok {
		return nil
	}
	have := hr.DeepCopy()
	makeReady(have)
	return c.Status().Update(ctx, have)
}

func installs(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
	if err := c.Create(ctx, o, opts...); err != nil {
		return err
	}
	return helmController(ctx, c, o)
}

func forbidden(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
	return nil, apierrors.NewForbidden(schema.GroupResource{Resource: "helmreleases"}, "web", errors.New("no"))
}

func TestPodInstalls(t *testing.T) {
	c := newCluster(t, plan.Install, interceptor.Funcs{Create: installs}, nil)
	for range 2 {
		if err := podOf(c, plan.Install).run(t.Context()); err != nil {
			t.Fatalf("a pod that is started twice ends well twice: %v", err)
		}
	}
	if got := c.release("web").Annotations[v1alpha1.AnnotationWorkflowUID]; got != "uid-wf" {
		t.Errorf("the release says for which workflow it was written: got %q", got)
	}
}

func TestPodFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		on     func(t *testing.T) interceptor.Funcs
		there  []client.Object
	}{
		"NoWatch": {
			reason: "who may not watch looks now and then",
			on: func(*testing.T) interceptor.Funcs {
				return interceptor.Funcs{Create: installs, Watch: forbidden}
			},
		},
		"WatchEnds": {
			reason: "a watch that ends is made again",
			on: func(*testing.T) interceptor.Funcs {
				return interceptor.Funcs{
					Create: installs,
					Watch: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
						w := watch.NewFake()
						w.Stop()
						return w, nil
					},
				}
			},
		},
		"Conflict": {
			reason: "a release that was written in between is looked at again",
			on: func(*testing.T) interceptor.Funcs {
				once := true
				return interceptor.Funcs{Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
					if once {
						once = false
						return apierrors.NewConflict(schema.GroupResource{Resource: "helmreleases"}, "web", nil)
					}
					if err := c.Update(ctx, o, opts...); err != nil {
						return err
					}
					return helmController(ctx, c, o)
				}}
			},
			there: []client.Object{release("web")},
		},
		"AwayForAWhile": {
			reason: "an API server that is away is waited for",
			on: func(*testing.T) interceptor.Funcs {
				failures := 3
				return interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
					if failures > 0 {
						failures--
						return apierrors.NewInternalError(errors.New("etcd is away"))
					}
					return installs(ctx, c, o, opts...)
				}}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, plan.Install, tc.on(t), nil, tc.there...)
			if err := podOf(c, plan.Install).run(t.Context()); err != nil {
				t.Errorf("%s: %v", tc.reason, err)
			}
		})
	}
}

func TestPodFails(t *testing.T) {
	t.Run("Refused", func(t *testing.T) {
		c := newCluster(t, plan.Install, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				if _, isRelease := o.(*helmv2.HelmRelease); isRelease {
					return apierrors.NewInvalid(schema.GroupKind{Kind: "HelmRelease"}, "web", nil)
				}
				return c.Create(ctx, o, opts...)
			},
		}, nil)
		if err := podOf(c, plan.Install).run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "HelmRelease target/web cannot be written: ") {
			t.Errorf("what the API server does not take is not tried again: %v", err)
		}
	})
	t.Run("Superseded", func(t *testing.T) {
		c := newCluster(t, plan.Install, interceptor.Funcs{}, nil)
		p := podOf(c, plan.Install)
		p.owner.Rollout.Generation = 0
		if err := p.run(t.Context()); err == nil || err.Error() != "HelmRelease target/web: superseded by generation 1 of group shop" {
			t.Errorf("an older generation writes nothing: %v", err)
		}
	})
	t.Run("Stopped", func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		c := newCluster(t, plan.Install, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				defer func() {
					if _, isRelease := o.(*helmv2.HelmRelease); isRelease {
						stop()
					}
				}()
				return c.Create(ctx, o, opts...)
			},
		}, nil)
		if err := podOf(c, plan.Install).run(ctx); !errors.Is(err, errStopped) {
			t.Errorf("a pod that is ended says so: %v", err)
		}
		c.release("web") // and what it wrote stays
	})
	t.Run("Expired", func(t *testing.T) {
		c := newCluster(t, plan.Install, interceptor.Funcs{Watch: forbidden}, nil)
		p := podOf(c, plan.Install)
		clock := time.Now()
		p.writer.reader.now = func() time.Time {
			clock = clock.Add(30 * time.Second)
			return clock
		}
		if err := p.run(t.Context()); err == nil || err.Error() != "HelmRelease target/web did not become ready within 1m" {
			t.Errorf("a release that takes too long fails the pod: %v", err)
		}
	})
}

func TestPodDeletes(t *testing.T) {
	storageNamespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "storage-web", Labels: map[string]string{v1alpha1.LabelStorage: "true", v1alpha1.LabelOwner: "shop"},
	}}
	stored := func(hr *helmv2.HelmRelease) { hr.Spec.StorageNamespace = "storage-web" }
	other := release("other", stored)
	c := newCluster(t, plan.Delete, interceptor.Funcs{}, nil, release("web", stored), other, storageNamespace)
	key := client.ObjectKeyFromObject(storageNamespace)
	if err := podOf(c, plan.Delete).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), key, &corev1.Namespace{}); err != nil {
		t.Errorf("records that another release keeps stay: %v", err)
	}
	if err := c.Delete(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := podOf(c, plan.Delete).run(t.Context()); err != nil {
		t.Fatalf("what is gone is deleted: %v", err)
	}
	if err := c.Get(t.Context(), key, &corev1.Namespace{}); !apierrors.IsNotFound(err) {
		t.Errorf("and the last one takes the namespace along: %v", err)
	}
}

// spec is a --spec.
func spec(t *testing.T, edit func(*helmv2.HelmRelease)) string {
	t.Helper()
	hr := release("web")
	hr.Annotations = map[string]string{
		v1alpha1.AnnotationRollout:  `{"group":"shop","uid":"uid-shop","generation":1}`,
		v1alpha1.AnnotationWorkflow: wfName,
		v1alpha1.AnnotationNode:     "web.web.install",
	}
	if edit != nil {
		edit(hr)
	}
	data, err := json.Marshal(hr)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(data)
}

func TestRunArguments(t *testing.T) {
	good := spec(t, nil)
	for name, tc := range map[string]struct {
		reason string
		args   []string
		want   string
	}{
		"NoSpec":    {"a pod without a spec says what it wants", []string{}, "--spec: want a HelmRelease, as base64 of its JSON"},
		"NotBase64": {"nothing of a bad spec is repeated", []string{"--spec", "hunter2!"}, "--spec: want a HelmRelease, as base64 of its JSON"},
		"NotJSON":   {"nor of what is in it", []string{"--spec", base64.StdEncoding.EncodeToString([]byte("hunter2"))}, "--spec is not the JSON of a HelmRelease"},
		"OtherKind": {"another kind is refused", []string{"--spec", spec(t, func(hr *helmv2.HelmRelease) { hr.Kind = "Pod" })}, "--spec: want a HelmRelease with a name and a namespace"},
		"NoRollout": {"a release of no rollout is refused", []string{"--spec", spec(t, func(hr *helmv2.HelmRelease) { hr.Annotations[v1alpha1.AnnotationRollout] = "" })},
			"--spec: the annotation orkestra.azure.microsoft.com/rollout does not say of which rollout the release is"},
		"NoWorkflow": {"a release of no workflow is refused", []string{"--spec", spec(t, func(hr *helmv2.HelmRelease) { hr.Annotations[v1alpha1.AnnotationWorkflow] = "" })},
			"--spec: the annotation orkestra.azure.microsoft.com/workflow does not say of which workflow the pod is"},
		"Action":  {"an action that there is not is refused", []string{"--spec", good, "--action", "upgrade"}, `--action "upgrade": want install or delete`},
		"Timeout": {"no time is refused", []string{"--spec", good, "--timeout", "0s"}, "--timeout 0s, --interval 1s: want more than nothing"},
		"Flag":    {"an argument that there is not is refused", []string{"--specs", good}, "unknown flag: --specs"},
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "termination-log")
			if err := os.WriteFile(log, []byte("of an earlier run, and longer than what is said of this one: "+strings.Repeat("x", 200)), 0o600); err != nil {
				t.Fatal(err)
			}
			var stderr strings.Builder
			if code := RunPod(t.Context(), tc.args, noEnv, &stderr, log); code != 2 {
				t.Errorf("%s: exit code %d, want 2", tc.reason, code)
			}
			if got := strings.TrimSpace(stderr.String()); got != tc.want {
				t.Errorf("%s: got %q, want %q", tc.reason, got, tc.want)
			}
			said, err := os.ReadFile(log)
			if err != nil || string(said) != tc.want {
				t.Errorf("and the kubelet is told the same: got %q, %v", said, err)
			}
		})
	}
}

func noEnv(string) (string, bool) { return "", false }

func TestRunWithoutATerminationLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "termination-log")
	if code := RunPod(t.Context(), nil, noEnv, io.Discard, path); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("outside a container no termination log is made: %v", err)
	}
}

func TestRunParses(t *testing.T) {
	o := &runOptions{spec: spec(t, nil), action: "delete", timeout: time.Minute, interval: time.Second, workflowUID: "uid-wf"}
	owner, node, err := o.parse()
	if err != nil {
		t.Fatal(err)
	}
	if owner.Workflow != wfName || owner.WorkflowUID != "uid-wf" || owner.Rollout != rollout {
		t.Errorf("the release says for whom it is run: %+v", owner)
	}
	if node.Task != "web.web.install" || node.Action != plan.Delete || node.Release.Name != "web" {
		t.Errorf("and what is to be done: %+v", node)
	}
}
