package compile

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/plan"
)

const (
	// keptnImage is the original's.
	keptnImage = "azureorkestra/keptn-executor:v0.1.0"
	// pollInterval is the original's --interval.
	pollInterval = "1s"
	// podGrace is how much longer than its timeout a pod may live, in seconds: its image
	// is pulled, and it has to say what was wrong.
	podGrace = 120
	// maxDeadline is what, with podGrace, Kubernetes takes as a pod's deadline, in seconds.
	maxDeadline = math.MaxInt32 - podGrace
	// nobody is the user of pods that do not say theirs.
	nobody = 65532
	// workflowUID is how our own executor learns the UID of the workflow, which is not
	// known before Argo runs it.
	workflowUID = "ORKESTRA_WORKFLOW_UID"
)

// executorCommand is said, because Argo would have to ask the registry for the image's.
var executorCommand = []string{"orkestra-executor", "run"}

// customParams are the params of a custom executor.
type customParams struct {
	// Data is handed over as base64, in the argument --data.
	Data json.RawMessage `json:"data"`
	// Volumes of the pod, for the volumeMounts of the container.
	Volumes []corev1.Volume `json:"volumes"`
}

// keptnParams are the params of a keptn executor.
type keptnParams struct {
	ConfigMapRef corev1.ObjectReference `json:"configMapRef"`
}

// pod is the template of a step that is a pod, without its name. The arguments are
// those of the original, and behind what the user's container has of its own.
func (c *compiler) pod(l leaf) (*wfv1.Template, error) {
	spec, err := c.specArgument(l)
	if err != nil {
		return nil, err
	}
	timeout := l.release.app.Spec.Release.EffectiveTimeout()
	container, volumes, special, err := c.container(l)
	if err != nil {
		return nil, err
	}
	container.Name = "" // Argo names it
	container.SecurityContext = restricted(container.SecurityContext)
	container.Args = append(container.Args, "--spec", spec, "--action", string(l.action))
	container.Args = append(container.Args, special...)
	container.Args = append(container.Args, "--timeout", timeout.String(), "--interval", pollInterval)
	return &wfv1.Template{
		Metadata:              wfv1.Metadata{Labels: owned(c.rollout.Group, nil)},
		ServiceAccountName:    c.options.ExecutorServiceAccount,
		ActiveDeadlineSeconds: new(intstr.FromInt32(int32(min(timeout.Seconds(), maxDeadline)) + podGrace)),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot:   new(true),
			RunAsUser:      new(int64(nobody)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Volumes:   volumes,
		Container: container,
	}, nil
}

// container of a step, the volumes of its pod, and the arguments that only its type has.
func (c *compiler) container(l leaf) (container *corev1.Container, volumes []corev1.Volume, args []string, err error) {
	e := l.step.executor
	if e == nil || e.Type == "" || e.Type == v1alpha1.ExecutorHelmRelease {
		return &corev1.Container{
			Image:           c.options.ExecutorImage,
			ImagePullPolicy: corev1.PullIfNotPresent,
			Command:         executorCommand,
			Env:             []corev1.EnvVar{{Name: workflowUID, Value: "{{workflow.uid}}"}},
		}, nil, nil, nil
	}
	container = &corev1.Container{}
	if e.Image != nil {
		container = e.Image.DeepCopy()
	}
	if e.Type == v1alpha1.ExecutorKeptn {
		var p keptnParams
		if err := decodeParams(e, &p); err != nil {
			return nil, nil, nil, err
		}
		container.Image = cmp.Or(container.Image, keptnImage)
		return container, nil, []string{"--configmap-name", p.ConfigMapRef.Name, "--configmap-namespace", p.ConfigMapRef.Namespace}, nil
	}
	var p customParams
	if err := decodeParams(e, &p); err != nil {
		return nil, nil, nil, err
	}
	return container, p.Volumes, []string{"--data", base64.StdEncoding.EncodeToString(p.Data)}, nil
}

func decodeParams(e *v1alpha1.Executor, into any) error {
	if e.Params == nil || len(e.Params.Raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(e.Params.Raw, into); err != nil {
		return fmt.Errorf("decoding the params of executor %s: %w", e.Name, err)
	}
	return nil
}

// specArgument is the HelmRelease as a pod is given it: with the marks of the workflow
// that are known before it runs, and no values.
func (c *compiler) specArgument(l leaf) (string, error) {
	hr := l.release.object.DeepCopy()
	hr.Annotations[v1alpha1.AnnotationRollout] = c.identity
	hr.Annotations[v1alpha1.AnnotationNode] = l.path
	if l.action == plan.Install {
		hr.Labels[v1alpha1.LabelGeneration] = strconv.FormatInt(c.rollout.Generation, 10)
	}
	data, err := json.Marshal(hr)
	if err != nil {
		return "", fmt.Errorf("encoding HelmRelease %s for a pod: %w", hr.Name, err)
	}
	return base64.StdEncoding.EncodeToString(data), nil
}

// restricted is a container's security context with what the restricted Pod Security
// Standard asks for, where the user has not said otherwise.
func restricted(own *corev1.SecurityContext) *corev1.SecurityContext {
	out := &corev1.SecurityContext{}
	if own != nil {
		out = own.DeepCopy()
	}
	if out.AllowPrivilegeEscalation == nil && (out.Privileged == nil || !*out.Privileged) {
		out.AllowPrivilegeEscalation = new(false)
	}
	if out.Capabilities == nil {
		out.Capabilities = &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}
	}
	return out
}
