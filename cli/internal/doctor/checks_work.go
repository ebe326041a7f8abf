package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/tree"
)

const (
	// unanswered is how long a controller may take to look at an object for the first time.
	unanswered = 30 * time.Second
	// slowRequeue of Argo is felt.
	slowRequeue = time.Second
	// argoDefault is what Argo takes where nothing is set.
	argoDefault = "10s"
)

func argo(v *visit) {
	controller := v.controller("workflow-controller")
	v.argoPace(controller)
	if v.Workflows.Err != nil {
		v.unseen("Argo's workflows", v.Workflows.Err)
		return
	}
	var silent []string
	for i := range v.Workflows.Value {
		if w := &v.Workflows.Value[i]; w.Status.Phase == "" && v.older(w, unanswered) {
			silent = append(silent, w.Name)
		}
	}
	if v.detail == "" {
		v.say("%d workflows", len(v.Workflows.Value))
	}
	if len(silent) > 0 {
		v.find(Problem, "argo-silent", fmt.Sprintf("Argo's workflow-controller has not looked at %s, for more than %s.", some(silent), unanswered),
			"Nothing decides what comes next in a rollout.",
			fmt.Sprintf("see that workflow-controller runs, and watches namespace %s: kubectl -n %s logs deploy/workflow-controller", v.Namespace, v.Namespace))
	}
}

// argoPace is how soon Argo looks at a workflow again.
func (v *visit) argoPace(w *Workload) {
	if w == nil {
		return
	}
	pace := w.Env["DEFAULT_REQUEUE_TIME"]
	if pace == "" {
		pace = argoDefault
	}
	v.say("%s, looks again after %s", tag(w.Image), pace)
	if d, err := time.ParseDuration(pace); err != nil || d > slowRequeue {
		v.find(Warning, "argo-slow", fmt.Sprintf("Argo's workflow-controller has DEFAULT_REQUEUE_TIME %s.", pace),
			"Steps of a rollout that are no releases begin that much later.",
			fmt.Sprintf("kubectl -n %s set env deploy/%s DEFAULT_REQUEUE_TIME=100ms", w.Namespace, w.Name))
	}
}

// controller of that component, and what is wrong with it where it is somebody else's; ours
// are looked at as services.
func (v *visit) controller(component string) *Workload {
	i := slices.IndexFunc(v.Workloads.Value, func(w Workload) bool { return w.Component == component })
	if i < 0 {
		return nil
	}
	w := &v.Workloads.Value[i]
	if !w.Ours {
		v.ready(*w)
	}
	return w
}

func tag(image string) string {
	name, _, _ := strings.Cut(image, "@")
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		return name[i+1:]
	}
	return "an image without a tag"
}

// older tells whether the object was written, by others than controllers' status, before
// that long.
func (v *visit) older(o metav1.Object, than time.Duration) bool {
	written := o.GetCreationTimestamp().Time
	for _, f := range o.GetManagedFields() {
		if f.Subresource == "" && f.Time != nil && f.Time.After(written) {
			written = f.Time.Time
		}
	}
	return v.Now.Sub(written) > than
}

// looked is the newest generation that a controller has begun with.
func looked(observed int64, conditions []metav1.Condition) int64 {
	for _, c := range conditions {
		observed = max(observed, c.ObservedGeneration)
	}
	return observed
}

func flux(v *visit) {
	for _, component := range []string{"source-controller", "helm-controller"} {
		if w := v.controller(component); w != nil {
			v.detail = strings.TrimPrefix(v.detail+", "+component+" "+tag(w.Image), ", ")
		}
	}
	v.helm()
	v.served()
	if v.detail == "" {
		v.say("%d releases, %d charts", len(v.Releases.Value), len(v.Charts.Value))
	}
}

func (v *visit) helm() {
	if v.Releases.Err != nil {
		v.unseen("The HelmReleases", v.Releases.Err)
		return
	}
	var silent, stays []string
	for i := range v.Releases.Value {
		r := &v.Releases.Value[i]
		name := r.Namespace + "/" + r.Name
		switch {
		case !r.DeletionTimestamp.IsZero():
			if v.Now.Sub(r.DeletionTimestamp.Time) > v.StuckAfter {
				stays = append(stays, name)
			}
		case !r.Spec.Suspend && looked(r.Status.ObservedGeneration, r.Status.Conditions) < r.Generation && v.older(r, unanswered):
			silent = append(silent, name)
		}
	}
	const do = "see that helm-controller runs: kubectl get deploy -A -l app.kubernetes.io/component=helm-controller, and its log"
	if len(silent) > 0 {
		v.find(Problem, "helm-silent", fmt.Sprintf("Flux's helm-controller has not looked at %s, for more than %s.", some(silent), unanswered),
			"Nothing is installed or upgraded.", do)
	}
	if len(stays) > 0 {
		v.find(Problem, "release-stays", fmt.Sprintf("HelmReleases are being deleted for more than %s: %s.", v.StuckAfter, some(stays)),
			"Their groups cannot go.", do)
	}
}

// served looks at the HelmCharts that helm-controller installs from.
func (v *visit) served() {
	if v.Charts.Err != nil {
		v.unseen("The HelmCharts", v.Charts.Err)
		return
	}
	var without []string
	for i := range v.Charts.Value {
		c := &v.Charts.Value[i]
		offers := c.Status.Artifact != nil && c.Status.ObservedGeneration == c.Generation && apimeta.IsStatusConditionTrue(c.Status.Conditions, "Ready")
		if c.DeletionTimestamp.IsZero() && !offers && v.older(c, unanswered) {
			without = append(without, c.Name)
		}
	}
	if len(without) > 0 {
		v.find(Problem, "chart-not-served", fmt.Sprintf("HelmCharts offer no archive: %s.", some(without)),
			"Releases that refer to them cannot be installed, and become not ready.", "see that the stager runs, and its log: it mends them within a minute")
	}
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func registries(v *visit) {
	v.say("%d staged charts", len(v.Charts.Value))
	for _, p := range v.Probes {
		if p.Name == Shelf && p.Err != nil {
			v.find(Problem, "chartmuseum-unreachable", fmt.Sprintf("ChartMuseum does not answer: %v", p.Err), "No chart can be staged.", "see that it runs; "+p.URL+" is what was asked")
		}
	}
	for i := range v.Groups.Value {
		g := &v.Groups.Value[i]
		c := apimeta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionStaged)
		if c == nil || c.Status != metav1.ConditionFalse || c.ObservedGeneration != g.Generation {
			continue
		}
		switch c.Reason {
		case v1alpha1.ReasonStagingUnavailable:
			v.find(Problem, "staging-unavailable", fmt.Sprintf("Group %s cannot be staged: %s", g.Name, c.Message), "No chart reaches the cluster.",
				"see that ChartMuseum runs, and that the stager has its password; it tries again by itself")
		case v1alpha1.ReasonRepositoryUnreachable, v1alpha1.ReasonAuthenticationFailed:
			v.find(Problem, "registry-unreachable", fmt.Sprintf("Group %s cannot be staged: %s", g.Name, c.Message), "The registry is away, or refuses.",
				"see that the stager reaches the registry, and that the Secret of authSecretRef is right; it tries again by itself")
		}
	}
}

func groups(v *visit) {
	if v.Groups.Err != nil {
		v.unseen("The groups", v.Groups.Err)
		return
	}
	v.say("%d", len(v.Groups.Value))
	for i := range v.Groups.Value {
		v.group(&v.Groups.Value[i])
	}
}

func (v *visit) group(g *v1alpha1.ApplicationGroup) {
	status := fmt.Sprintf("%s status %s", v.Program, g.Name)
	if !g.DeletionTimestamp.IsZero() {
		if d := v.Now.Sub(g.DeletionTimestamp.Time); d > v.StuckAfter {
			v.find(Problem, "group-stays", fmt.Sprintf("Group %s is being deleted for %s.%s", g.Name, d.Round(time.Second), message(g)),
				"Its releases stay until what is in the way is gone.", fmt.Sprintf("%s; to let it go whatever is left: %s delete %s --force", status, v.Program, g.Name))
		}
		return
	}
	if g.Spec.Suspend {
		return
	}
	for _, said := range []struct{ condition, service string }{{v1alpha1.ConditionAccepted, "intake"}, {v1alpha1.ConditionReady, "watcher"}} {
		c := apimeta.FindStatusCondition(g.Status.Conditions, said.condition)
		if (c == nil || c.ObservedGeneration < g.Generation) && v.older(g, unanswered) {
			v.find(Problem, said.service+"-silent", fmt.Sprintf("Group %s: %s has said nothing of generation %d, for more than %s.", g.Name, said.service, g.Generation, unanswered),
				"A change of the group is not rolled out, or nobody says how far it is.", fmt.Sprintf("see that %s runs, and its log", said.service))
			return
		}
	}
	if over, ok := tree.Done(g); over && !ok {
		v.find(Warning, "group-failed", fmt.Sprintf("Group %s has failed.%s", g.Name, message(g)), "It stays so until somebody changes something.", status)
		return
	}
	c := apimeta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionReconciling)
	if c != nil && c.Status == metav1.ConditionTrue && v.Now.Sub(c.LastTransitionTime.Time) > v.StuckAfter {
		v.find(Problem, "group-stuck", fmt.Sprintf("Group %s is on its way for %s.%s", g.Name, v.Now.Sub(c.LastTransitionTime.Time).Round(time.Second), message(g)),
			"A rollout that does not come to rest waits for something.", status)
	}
}

func message(g *v1alpha1.ApplicationGroup) string {
	c := apimeta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionReady)
	if c == nil || c.Message == "" {
		return ""
	}
	return " " + c.Message
}

func receivers(v *visit) {
	if v.Receivers.Err != nil {
		v.unseen("The Receivers", v.Receivers.Err)
		return
	}
	v.say("%d", len(v.Receivers.Value))
	for i := range v.Receivers.Value {
		r := &v.Receivers.Value[i]
		c := apimeta.FindStatusCondition(r.Status.Conditions, "Ready")
		name := r.Namespace + "/" + r.Name
		switch {
		case !r.DeletionTimestamp.IsZero():
		case c == nil || c.ObservedGeneration < r.Generation:
			if v.older(r, unanswered) {
				v.find(Problem, "receiver-silent", fmt.Sprintf("Receiver %s: intake has said nothing of it, for more than %s.", name, unanswered),
					"Nobody hears its sender.", "run intake with --receiver-addr (receivers.enabled=true of the Helm chart)")
			}
		case c.Status != metav1.ConditionTrue && !r.Spec.Suspend:
			v.find(Problem, "receiver-not-ready", fmt.Sprintf("Receiver %s is not ready: %s", name, c.Message), "What its sender says is refused.",
				fmt.Sprintf("kubectl -n %s describe receiver %s", r.Namespace, r.Name))
		}
	}
}

// leftovers are objects of groups that are no more.
func leftovers(v *visit) {
	if err := first(v.Groups.Err, v.Charts.Err, v.Secrets.Err, v.Releases.Err); err != nil {
		v.unseen("What groups have left", err)
		return
	}
	alive := map[string]bool{}
	for i := range v.Groups.Value {
		alive[v1alpha1.Shorten(v.Groups.Value[i].Name, v1alpha1.MaxLabel)] = true
	}
	count := 0
	look := func(kind string, o metav1.Object) []string {
		owner := o.GetLabels()[v1alpha1.LabelOwner]
		count++
		if owner == "" || alive[owner] || !o.GetDeletionTimestamp().IsZero() || !v.older(o, v.StuckAfter) {
			return nil
		}
		return []string{fmt.Sprintf("%s %s/%s of group %s", kind, o.GetNamespace(), o.GetName(), owner)}
	}
	var left []string
	for i := range v.Releases.Value {
		left = append(left, look("HelmRelease", &v.Releases.Value[i])...)
	}
	for i := range v.Charts.Value {
		left = append(left, look("HelmChart", &v.Charts.Value[i])...)
	}
	for i := range v.Secrets.Value {
		left = append(left, look("Secret", &v.Secrets.Value[i])...)
	}
	v.say("%d objects looked at", count)
	if len(left) > 0 {
		v.find(Warning, "left-behind", fmt.Sprintf("Their group is gone, and they are not: %s.", some(left)),
			"They take room, and a Secret among them keeps values that nobody needs.", "look at each, and kubectl delete what nothing needs")
	}
}
