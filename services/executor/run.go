package executor

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/executor/execute"
)

const (
	// RunCommand is the argument with which the binary runs one release.
	RunCommand = "run"

	// TerminationLog is where a container says why it ended.
	TerminationLog = "/dev/termination-log"
	// maxTermination is what Kubernetes reads of it, in bytes.
	maxTermination = 4096

	// envWorkflowUID gives --workflow-uid: Argo puts it into the environment of a
	// pod, since it is not known when the spec is encoded.
	envWorkflowUID = "ORKESTRA_WORKFLOW_UID"
)

// badArguments are those with which no retry will help.
type badArguments struct{ error }

// runOptions are the arguments of a pod: those of the original's executors, and
// two of ours.
type runOptions struct {
	spec, action      string
	timeout, interval time.Duration
	kubeconfig        string
	workflowUID       string
}

// RunPod runs one release as the arguments say, until it is done or ctx is, and
// returns the exit code of the process: 0 where it is as it should be, 2 where the
// arguments are wrong, else 1. What was wrong is said on stderr, and in the file
// terminationLog where that is there.
func RunPod(ctx context.Context, args []string, lookupEnv func(string) (string, bool), stderr io.Writer, terminationLog string) int {
	cmd := runCommand(lookupEnv, stderr)
	cmd.SetArgs(args)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	message := err.Error()
	if logErr := writeTermination(terminationLog, message); logErr != nil {
		message += "\n" + logErr.Error()
	}
	fmt.Fprintln(stderr, message)
	if _, bad := errors.AsType[*badArguments](err); bad {
		return 2
	}
	return 1
}

// writeTermination leaves the message where the kubelet looks for it. Outside a
// container there is no such file, and none is made.
func writeTermination(path, message string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = f.WriteString(message[:min(len(message), maxTermination)])
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("writing the termination message: %w", err)
	}
	return nil
}

func runCommand(lookupEnv func(string) (string, bool), stderr io.Writer) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "orkestra-executor " + RunCommand,
		Short: "Runs one release, in a pod of a workflow",
		Long: `Applies or deletes one HelmRelease, waits until helm-controller is done with it, and
ends with 0, or with 1 and helm-controller's words. Started again it goes on where it
was. It needs no NATS; the arguments are those of the original's executors.`,
		Example:       `  orkestra-executor run --spec "$(base64 -w0 release.json)" --action install --timeout 5m`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if uid, ok := lookupEnv(envWorkflowUID); ok && o.workflowUID == "" {
				o.workflowUID = uid
			}
			return o.run(cmd.Context(), stderr)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &badArguments{err} })
	fs := cmd.Flags()
	fs.StringVar(&o.spec, "spec", "", "the HelmRelease, as base64 of its JSON")
	fs.StringVar(&o.action, "action", string(plan.Install), "install or delete")
	fs.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long it may take")
	fs.DurationVar(&o.interval, "interval", time.Second, "how often the release is looked at where its changes are not told")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig to use (default: KUBECONFIG, else in-cluster)")
	fs.StringVar(&o.workflowUID, "workflow-uid", "", "UID of the workflow (default: "+envWorkflowUID+", else as the HelmRelease says)")
	for _, name := range []string{"data", "configmap-name", "configmap-namespace"} {
		fs.String(name, "", "accepted, as the original's executors do, and not used")
	}
	return cmd
}

func (o *runOptions) run(ctx context.Context, stderr io.Writer) error {
	owner, node, err := o.parse()
	if err != nil {
		return &badArguments{err}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return fmt.Errorf("loading the kubeconfig: %w", err)
	}
	config.UserAgent = "orkestra-executor-pod"
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, helmv2.AddToScheme} {
		if err := add(scheme); err != nil {
			return fmt.Errorf("building the scheme: %w", err)
		}
	}
	log := slog.New(slog.NewJSONHandler(stderr, nil))
	ctrllog.SetLogger(logr.FromSlogHandler(log.Handler()))
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("reaching the Kubernetes API server at %s: %w", config.Host, err)
	}
	return newPod(c, owner, node, o.timeout, o.interval, log).run(ctx)
}

func newPod(c client.WithWatch, owner execute.Owner, node plan.Node, timeout, interval time.Duration, log *slog.Logger) *pod {
	return &pod{
		writer: &writer{reader: &reader{cached: c, live: c, now: time.Now}, client: c, log: log, count: func(string) {}, later: func(string, string, time.Duration) {}, began: func(*helmv2.HelmRelease) {}},
		watch:  c,
		node:   node,
		owner:  owner,
		since:  time.Now(),

		timeout: timeout, interval: interval,
	}
}

// parse reads the arguments. Nothing of the release's content gets into an error.
func (o *runOptions) parse() (execute.Owner, plan.Node, error) {
	none := func(format string, args ...any) (execute.Owner, plan.Node, error) {
		return execute.Owner{}, plan.Node{}, fmt.Errorf(format, args...)
	}
	action := plan.Action(o.action)
	if action != plan.Install && action != plan.Delete {
		return none("--action %q: want %s or %s", o.action, plan.Install, plan.Delete)
	}
	if o.timeout <= 0 || o.interval <= 0 {
		return none("--timeout %s, --interval %s: want more than nothing", o.timeout, o.interval)
	}
	data, err := base64.StdEncoding.DecodeString(o.spec)
	if err != nil || len(data) == 0 {
		return none("--spec: want a HelmRelease, as base64 of its JSON")
	}
	hr := &helmv2.HelmRelease{}
	if err := json.Unmarshal(data, hr); err != nil {
		return none("--spec is not the JSON of a HelmRelease")
	}
	if hr.Name == "" || hr.Namespace == "" || hr.Kind != "" && hr.Kind != helmv2.HelmReleaseKind {
		return none("--spec: want a HelmRelease with a name and a namespace")
	}
	var rollout events.Rollout
	if err := json.Unmarshal([]byte(hr.Annotations[v1alpha1.AnnotationRollout]), &rollout); err != nil || rollout.Group == "" || rollout.UID == "" {
		return none("--spec: the annotation %s does not say of which rollout the release is", v1alpha1.AnnotationRollout)
	}
	owner := execute.Owner{
		Rollout:     rollout,
		Workflow:    hr.Annotations[v1alpha1.AnnotationWorkflow],
		WorkflowUID: cmp.Or(o.workflowUID, hr.Annotations[v1alpha1.AnnotationWorkflowUID]),
	}
	if owner.Workflow == "" {
		return none("--spec: the annotation %s does not say of which workflow the pod is", v1alpha1.AnnotationWorkflow)
	}
	task := cmp.Or(hr.Annotations[v1alpha1.AnnotationNode], hr.Name)
	return owner, plan.Node{Task: task, Action: action, Release: hr}, nil
}
