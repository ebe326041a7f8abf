package compile

import (
	"encoding/json"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"orkestra.dev/api/v1alpha1"
)

// stepFaults are what is wrong with the steps of a group that neither the schema nor
// Validate looks into.
func stepFaults(group *v1alpha1.ApplicationGroup) field.ErrorList {
	var faults field.ErrorList
	for i := range group.Spec.Applications {
		for j := range group.Spec.Applications[i].Spec.Workflow {
			path := field.NewPath("spec", "applications").Index(i).Child("spec", "workflow").Index(j)
			faults = append(faults, executorFaults(path, &group.Spec.Applications[i].Spec.Workflow[j])...)
		}
	}
	return faults
}

func executorFaults(path *field.Path, e *v1alpha1.Executor) field.ErrorList {
	params := path.Child("params")
	switch e.Type {
	case v1alpha1.ExecutorKeptn:
		var p keptnParams
		if err := decodeParams(e, &p); err != nil {
			return field.ErrorList{field.Invalid(params, field.OmitValueType{}, "are not those of a keptn executor: "+err.Error())}
		}
		if p.ConfigMapRef.Name == "" || p.ConfigMapRef.Namespace == "" {
			return field.ErrorList{field.Required(params.Child("configMapRef"), "a keptn executor needs the name and the namespace of the ConfigMap with its configuration")}
		}
	case v1alpha1.ExecutorCustom:
		var p customParams
		if err := decodeParams(e, &p); err != nil {
			return field.ErrorList{field.Invalid(params, field.OmitValueType{}, "are not those of a custom executor: "+err.Error())}
		}
		return volumeFaults(params.Child("volumes"), e.Image, p.Volumes)
	case v1alpha1.ExecutorJob:
		var spec batchv1.JobSpec
		if err := json.Unmarshal(e.Job.Raw, &spec); err != nil {
			return field.ErrorList{field.Invalid(path.Child("job"), field.OmitValueType{}, "is not the spec of a Job: "+err.Error())}
		}
		if policy := spec.Template.Spec.RestartPolicy; policy == corev1.RestartPolicyAlways {
			return field.ErrorList{field.NotSupported(path.Child("job", "template", "spec", "restartPolicy"), policy,
				[]corev1.RestartPolicy{corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure})}
		}
	case "", v1alpha1.ExecutorHelmRelease, v1alpha1.ExecutorWait:
	}
	return nil
}

// volumeFaults: a container mounts the volumes of its pod and no others, and none of
// them is a part of the node, which the restricted Pod Security Standard forbids.
func volumeFaults(path *field.Path, image *corev1.Container, volumes []corev1.Volume) field.ErrorList {
	var faults field.ErrorList
	there := map[string]bool{}
	for i, v := range volumes {
		there[v.Name] = true
		s := v.VolumeSource
		if s.ConfigMap == nil && s.CSI == nil && s.DownwardAPI == nil && s.EmptyDir == nil && s.Ephemeral == nil &&
			s.PersistentVolumeClaim == nil && s.Projected == nil && s.Secret == nil {
			faults = append(faults, field.Invalid(path.Index(i), v.Name,
				"must be one of configMap, csi, downwardAPI, emptyDir, ephemeral, persistentVolumeClaim, projected, secret"))
		}
	}
	for _, m := range image.VolumeMounts {
		if !there[m.Name] {
			faults = append(faults, field.Required(path, fmt.Sprintf("the container mounts volume %s: say here what it is", m.Name)))
		}
	}
	return faults
}
