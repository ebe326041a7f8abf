package execute

import (
	"cmp"
	"fmt"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"orkestra.dev/pkg/plan"
	"orkestra.dev/pkg/readiness"
)

// minJobTTL is how long a Job that has ended stays at least, in seconds: one that
// is gone before anybody has seen its end would be run again.
const minJobTTL int32 = 300

// job says what comes next for a node of kind Job.
func job(owner Owner, want plan.Node, have *batchv1.Job, since, now time.Time) Verdict {
	if want.Action == plan.Delete {
		return Verdict{Step: Succeed} // the garbage collector follows its owner
	}
	fail := func(problem string) Verdict { return failed("Job", want.Job.Namespace, want.Job.Name, problem) }
	timeout := stepTimeout(want)
	expired := now.After(since.Add(timeout))
	if have == nil {
		if expired {
			return fail("is not there after " + short(timeout))
		}
		return Verdict{Step: Begin}
	}
	if problem := foreign(owner, have); problem != "" {
		return fail(problem)
	}
	ended := jobCondition(have, batchv1.JobFailed)
	switch {
	case have.DeletionTimestamp != nil && !expired:
		return Verdict{Step: Wait, Poll: true}
	case have.DeletionTimestamp != nil:
		return fail("is still being deleted after " + short(timeout))
	case jobCondition(have, batchv1.JobComplete) != nil:
		return Verdict{Step: Succeed}
	case ended != nil && written(owner, have):
		return fail("failed: " + cmp.Or(ended.Message, ended.Reason))
	case ended != nil:
		return Verdict{Step: Begin}
	case expired:
		return fail(fmt.Sprintf("did not complete within %s: %d of its pods are active, %d have failed",
			short(timeout), have.Status.Active, have.Status.Failed))
	default:
		return Verdict{Step: Wait, Poll: true}
	}
}

// jobCondition is the condition of that type, where it is true.
func jobCondition(have *batchv1.Job, kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range have.Status.Conditions {
		if c := &have.Status.Conditions[i]; c.Type == kind && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// desiredJob is the Job to create for a node, marked as begun by owner at now.
func desiredJob(owner Owner, task string, want *batchv1.Job, now time.Time) (*batchv1.Job, error) {
	out := want.DeepCopy()
	out.Labels = merged(out.Labels, ownerLabels(owner))
	if ttl := out.Spec.TTLSecondsAfterFinished; ttl != nil && *ttl < minJobTTL {
		out.Spec.TTLSecondsAfterFinished = new(minJobTTL)
	}
	if err := mark(owner, task, &out.ObjectMeta, now); err != nil {
		return nil, err
	}
	return out, nil
}

// await says what comes next for a node of kind Wait.
func await(want plan.Node, seen Object, since, now time.Time) Verdict {
	if want.Action == plan.Delete {
		return Verdict{Step: Succeed}
	}
	met, problem, wrong := meets(want, seen)
	timeout := stepTimeout(want)
	fail := func(problem string) Verdict {
		return failed(want.Wait.Kind, want.Wait.Namespace, want.Wait.Name, problem)
	}
	switch {
	case wrong:
		return fail("cannot be waited for: " + problem)
	case met:
		return Verdict{Step: Succeed}
	case now.After(since.Add(timeout)):
		return fail("is not as it should be after " + short(timeout) + ": " + problem)
	default:
		return Verdict{Step: Wait, Poll: true}
	}
}

// meets reports whether an object is as a node waits for it, and if not what is
// missing. wrong: it never will be. Of what a Secret holds nothing is said, nor of
// what may be in any object's values.
func meets(want plan.Node, seen Object) (met bool, problem string, wrong bool) {
	switch {
	case seen.Problem != "":
		return false, seen.Problem, false
	case seen.Content == nil:
		return false, "it is not there", false
	case want.Wait.Expr != "":
		met, problem, wrong = evaluate(want.Wait.Expr, seen.Content)
		if !wrong && want.Wait.Kind == "Secret" {
			problem = fmt.Sprintf("%q does not hold", want.Wait.Expr)
		}
		return met, problem, wrong
	}
	object := &unstructured.Unstructured{Object: seen.Content}
	if object.GetDeletionTimestamp() != nil {
		return false, "it is being deleted", false
	}
	result, err := status.Compute(object)
	if err != nil {
		return false, "its status cannot be read: " + err.Error(), false
	}
	return result.Status == status.CurrentStatus, string(result.Status) + ": " + result.Message, false
}

// evaluate reports whether an expression holds for an object, and if not why.
// wrong: it is no expression, whatever the object.
func evaluate(expr string, object map[string]any) (holds bool, problem string, wrong bool) {
	e, err := readiness.Compile(expr)
	if err != nil {
		return false, err.Error(), true
	}
	holds, err = e.Holds(object)
	problem = fmt.Sprintf("%q does not hold", expr)
	if err != nil {
		problem += ": " + err.Error()
	}
	return holds, problem, false
}

// prepare says what comes next for a node of kind Prepare.
func (s State) prepare(task string, want plan.Node) Verdict {
	if want.Action == plan.Delete || s.Prepared[task] {
		return Verdict{Step: Succeed}
	}
	return Verdict{Step: Begin}
}

// stepTimeout of a node of kind Job or Wait; the release's where it has none.
func stepTimeout(want plan.Node) time.Duration {
	return cmp.Or(want.Timeout, metav1.Duration{Duration: want.Release.GetTimeout().Duration}).Duration
}
