package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ExecutorType says what runs a step of a release.
//
// +kubebuilder:validation:Enum=helmrelease;keptn;custom;job;wait
type ExecutorType string

// The executor types: three of the original, and two that gate what follows.
const (
	ExecutorHelmRelease ExecutorType = "helmrelease"
	ExecutorKeptn       ExecutorType = "keptn"
	ExecutorCustom      ExecutorType = "custom"
	// ExecutorJob runs a Job to its end: a migration, a smoke test.
	ExecutorJob ExecutorType = "job"
	// ExecutorWait waits until an object is as an expression says.
	ExecutorWait ExecutorType = "wait"
)

// Executor is one step of the DAG that each release of an application goes through.
//
// +kubebuilder:validation:XValidation:rule="has(self.type) && self.type == 'job' ? has(self.job) : !has(self.job)",message="an executor of type job has a Job, and no other has one",fieldPath=".job"
// +kubebuilder:validation:XValidation:rule="has(self.type) && self.type == 'wait' ? has(self.wait) : !has(self.wait)",message="an executor of type wait says what it waits for, and no other does",fieldPath=".wait"
// +kubebuilder:validation:XValidation:rule="!has(self.type) || self.type != 'custom' || (has(self.image) && has(self.image.image) && size(self.image.image) > 0)",message="a custom executor runs a container: name its image in image.image",fieldPath=".image"
type Executor struct {
	DAG `json:",inline"`

	// Type of the executor.
	//
	// +optional
	// +kubebuilder:default=helmrelease
	Type ExecutorType `json:"type,omitempty"`

	// Image is the container that a custom executor runs.
	//
	// +optional
	Image *corev1.Container `json:"image,omitempty"`

	// Params are handed to the executor as they are.
	//
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Params *apiextensionsv1.JSON `json:"params,omitempty"`

	// Job is the spec of a batch/v1 Job that an executor of type job runs in the
	// target namespace. It is run again when it, or what the release installs, has
	// changed; a Job that has failed is run again by the next rollout.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Job *apiextensionsv1.JSON `json:"job,omitempty"`

	// Wait is what an executor of type wait waits for.
	//
	// +optional
	Wait *WaitFor `json:"wait,omitempty"`

	// Timeout of a step of type job or wait. The default is the release's.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s')",message="must be a duration such as 90s, 10m or 1h30m"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
}

// WaitFor names an object, and says what it must be like.
type WaitFor struct {
	// APIVersion and Kind of the object.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	APIVersion string `json:"apiVersion"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// Name of the object.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Namespace of the object; the default is the target namespace. It means nothing
	// to an object that has none.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
	// Expr is a CEL expression over the object, self. Where it is not given the object
	// must be there and, as kstatus sees it, current.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Expr string `json:"expr,omitempty"`
}
