package observe

import (
	"fmt"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// attempts is how many forward workflows the rollout had until now, and how many
// more of them spec.remediation.retries asks for.
func (s summary) attempts() (made, retries int) {
	for _, r := range s.runs {
		if r.rollout == s.rollout && typeOf(r.wf) == events.WorkflowForward {
			made++
		}
	}
	if r := s.Group.Spec.Remediation; r != nil {
		retries = int(r.Retries)
	}
	return made, retries
}

// retried: the rollout goes on although forward has failed: another forward workflow
// is to follow. One that was stopped is not tried again, and what was once said to be
// the end stays the end.
func (s summary) retried(forward *wfv1.Workflow) bool {
	made, retries := s.attempts()
	return forward.Status.Fulfilled() && !forward.Status.Successful() && failureOf(forward).reason != reasonTerminated &&
		made <= retries && !s.said(metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed)
}

func (s summary) retrying(forward *wfv1.Workflow) string {
	made, retries := s.attempts()
	return fmt.Sprintf("%s; trying again (%d of %d)", failureMessage(forward), made, retries)
}
