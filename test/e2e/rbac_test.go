package e2e

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/local/stack"
)

// auditEvent is what is looked at of a line of the audit log (audit.k8s.io/v1, Event).
type auditEvent struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef *struct {
		Namespace   string `json:"namespace"`
		APIGroup    string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	ResponseStatus metav1.Status     `json:"responseStatus"`
	Annotations    map[string]string `json:"annotations"`
	ReceivedAt     metav1.MicroTime  `json:"requestReceivedTimestamp"`
}

// request is what a service asks of the API server, as a rule of RBAC names it.
type request struct{ service, namespace, verb, group, resource string }

func (r request) String() string {
	where := cmp.Or(r.namespace, "the cluster")
	return fmt.Sprintf("%s: %s %s in %s", r.service, r.verb, strings.Trim(r.group+"/"+r.resource, "/"), where)
}

// among counts the requests that a right is for: one for all of the cluster is one for any namespace.
func (r request) among(requests map[request]int) int {
	n := 0
	for other, times := range requests {
		if r.namespace == "" {
			other.namespace = ""
		}
		if other == r {
			n += times
		}
	}
	return n
}

// takenAway is what a test took from a service on purpose: being refused that is no failure.
var takenAway = struct {
	sync.Mutex
	requests map[request]bool
}{requests: map[request]bool{}}

// interval is from one time to another.
type interval struct{ from, to time.Time }

// starting is when tests had the API server start: until it is ready it may refuse what it allows, as it has not
// read all roles yet. A cluster's own load balancer sends nobody there.
var starting []interval

// scopes of the rules in the chart, and the namespaces that they are about.
func scopes() map[string]string {
	return map[string]string{"cluster": "", "namespace": stack.Namespace, "default": "default"}
}

// chartRules are the rules of a service in the chart, by their scope.
func chartRules(service string) (map[string][]rbacv1.PolicyRule, error) {
	b, err := os.ReadFile(filepath.Join(env.root, "deploy", "charts", "orkestra", "rbac", service+".yaml"))
	if err != nil {
		return nil, err
	}
	var out map[string][]rbacv1.PolicyRule
	return out, yaml.UnmarshalStrict(b, &out)
}

// granted is everything that the services may do, one verb of one resource at a time.
func granted() (map[request]bool, error) {
	out := map[request]bool{}
	for _, service := range stack.Accounts {
		rules, err := chartRules(service)
		if err != nil {
			return nil, err
		}
		for scope, namespace := range scopes() {
			for _, rule := range rules[scope] {
				for _, group := range rule.APIGroups {
					for _, resource := range rule.Resources {
						for _, verb := range rule.Verbs {
							out[request{service, namespace, verb, group, resource}] = true
						}
					}
				}
			}
		}
	}
	return out, nil
}

// asked reads from the API server's audit log what the services have asked for, and what of that was refused.
func asked() (allowed, refused map[request]int, err error) {
	f, err := os.Open(env.stack.AuditLog())
	if err != nil {
		return nil, nil, err
	}
	allowed, refused = map[request]int{}, map[request]int{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e auditEvent
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // the line that is being written
		}
		if slices.ContainsFunc(starting, func(i interval) bool { return e.ReceivedAt.After(i.from) && e.ReceivedAt.Time.Before(i.to) }) {
			continue
		}
		name := e.User.Username[strings.LastIndexByte(e.User.Username, ':')+1:]
		r := request{service: strings.TrimPrefix(name, "orkestra-"), verb: e.Verb}
		if o := e.ObjectRef; o != nil {
			r.namespace, r.group, r.resource = o.Namespace, o.APIGroup, o.Resource
			if o.Subresource != "" {
				r.resource += "/" + o.Subresource
			}
		}
		// An apply is a patch that may come to create, for which the right is asked later.
		switch later := laterRefusal.FindStringSubmatch(e.ResponseStatus.Message); {
		case later != nil:
			r.verb = later[1]
			refused[r]++
		case e.Annotations["authorization.k8s.io/decision"] == "forbid":
			refused[r]++
		default:
			allowed[r]++
			if e.Verb == "patch" && e.ResponseStatus.Code == http.StatusCreated {
				r.verb = "create"
				allowed[r]++
			}
		}
	}
	return allowed, refused, errors.Join(lines.Err(), f.Close())
}

// laterRefusal is what RBAC says, as opposed to a policy, or to a namespace that is going.
var laterRefusal = regexp.MustCompile(`User "[^"]+" cannot (\w+) resource`)

// permissions fails where a service was refused something, and, when all tests have run, prints what it may do and never did.
func permissions() error {
	allowed, refused, err := asked()
	if err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	var errs []error
	for r, n := range refused {
		// What is taken away is taken in one namespace or in all.
		everywhere := r
		everywhere.namespace = ""
		if !takenAway.requests[r] && !takenAway.requests[everywhere] {
			errs = append(errs, fmt.Errorf("refused %d times: %s", n, r))
		}
	}
	if pick := flag.Lookup("test.run").Value.String(); len(errs) == 0 && (pick == "" || pick == ".") {
		// This names them and does not fail: which requests random lives and kills lead to is chance.
		for _, err := range unused(allowed) {
			fmt.Println("e2e: a right to trim, or to add to those that are rare:", err)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// rare are rights that are needed, and that the tests need not come to use: what for.
var rare = map[request]string{
	{"intake", "", "patch", "", "secrets"}:                                        "values of a group that goes alone",
	{"intake", "", "patch", "batch", "jobs"}:                                      "Jobs of a group that goes alone",
	{"intake", "orkestra", "patch", "argoproj.io", "workflows"}:                   "a group that goes alone, or by force, while its workflow runs",
	{"intake", "", "update", "orkestra.azure.microsoft.com", "applicationgroups"}: "a webhook that asks for other values",
	{"intake", "", "get", "orkestra.azure.microsoft.com", "receivers"}:            "a webhook",
	{"intake", "", "patch", "orkestra.azure.microsoft.com", "receivers/status"}:   "a Receiver",
	{"intake", "", "create", "events.k8s.io", "events"}:                           "what becomes of a delivery",
	{"intake", "", "patch", "events.k8s.io", "events"}:                            "what becomes of a delivery",
	{"intake", "orkestra", "create", "", "secrets"}:                               "what a webhook asks for",
	{"intake", "orkestra", "delete", "", "secrets"}:                               "what a webhook asks for",
	{"compiler", "", "delete", "batch", "jobs"}:                                   "Jobs that no revision would run",
	{"compiler", "orkestra", "delete", "argoproj.io", "workflows"}:                "two replicas that compile one rollout at a time, and see it otherwise",
	{"compiler", "orkestra", "get", "apps", "controllerrevisions"}:                "a rollback to a revision, and a revision that is there already",
	{"executor", "", "delete", "batch", "jobs"}:                                   "a Job that an earlier workflow ran without success",
}

// unused says which rights no request needed.
func unused(allowed map[request]int) []error {
	rights, err := granted()
	if err != nil {
		return []error{err}
	}
	needed := map[request]bool{}
	for r := range allowed {
		for _, namespace := range []string{r.namespace, ""} {
			r.namespace = namespace
			needed[r] = true
			if r.verb == "watch" { // a newer API server lists by it; with an older one informers list
				r.verb = "list"
				needed[r] = true
				r.verb = "watch"
			}
		}
	}
	var errs []error
	for _, r := range slices.Collect(maps.Keys(rights)) {
		if _, excused := rare[r]; !needed[r] && !excused {
			errs = append(errs, fmt.Errorf("never used: %s", r))
		}
	}
	return errs
}

// TestPermissionsAreNeeded takes one right away from each service and sees that the group does not come up, and that the
// API server refused the service just that; then gives it back, and the group comes up by itself. Intake's own right is
// needed to let a group go.
func TestPermissionsAreNeeded(t *testing.T) {
	for _, tt := range []struct {
		service, scope string
		rule           rbacv1.PolicyRule
	}{
		{"intake", "cluster", rule("orkestra.azure.microsoft.com", "applicationgroups", "patch")},
		{"stager", "namespace", rule("source.toolkit.fluxcd.io", "helmcharts", "create")},
		{"compiler", "namespace", rule("argoproj.io", "workflows", "create")},
		{"executor", "cluster", rule("helm.toolkit.fluxcd.io", "helmreleases", "create")},
		{"watcher", "cluster", rule("orkestra.azure.microsoft.com", "applicationgroups/status", "patch")},
	} {
		t.Run(tt.service, func(t *testing.T) {
			right := request{tt.service, scopes()[tt.scope], tt.rule.Verbs[0], tt.rule.APIGroups[0], tt.rule.Resources[0]}
			_, before, err := asked()
			if err != nil {
				t.Fatal(err)
			}
			giveBack := takeAway(t, right, tt.scope)
			s := serve(t)
			add(t, s, "small", "1.0.0", configMapChart())
			g := chain("without"+tt.service, s.URL, 2)
			create(t, g)
			if tt.service == "intake" {
				awaitReady(t, g.Name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
				must(t, env.client.Delete(t.Context(), g))
			}
			eventually(t, time.Minute, "being refused "+right.String(), func(context.Context) error {
				_, refused, err := asked()
				if err == nil && right.among(refused) == right.among(before) {
					err = errors.New("it was not")
				}
				return err
			})
			if g, err := get(t.Context(), g.Name); err != nil || apimeta.IsStatusConditionTrue(g.Status.Conditions, v1alpha1.ConditionReady) {
				t.Errorf("the group is ready, or gone, without %s: %v", right, err)
			}
			giveBack()
			if tt.service == "intake" {
				remove(t, g.Name)
				return
			}
			if tt.service == "executor" {
				// What may not be written fails the node; the group's owner asks again.
				awaitReady(t, g.Name, time.Minute, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed)
				update(t, g.Name, func(g *v1alpha1.ApplicationGroup) {
					metav1.SetMetaDataAnnotation(&g.ObjectMeta, v1alpha1.AnnotationRequestedAt, "again")
				})
			}
			awaitReady(t, g.Name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
		})
	}
}

func rule(group, resource, verb string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: []string{verb}}
}

// takeAway takes a right out of the role of a service, and returns what gives it back.
func takeAway(t *testing.T, right request, scope string) (giveBack func()) {
	t.Helper()
	takenAway.Lock()
	takenAway.requests[right] = true
	takenAway.Unlock()
	set := func(change func([]rbacv1.PolicyRule) []rbacv1.PolicyRule) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		key := client.ObjectKey{Namespace: right.namespace, Name: "orkestra-" + right.service}
		var err error
		if scope == "cluster" {
			role := &rbacv1.ClusterRole{}
			err = env.client.Get(ctx, key, role)
			role.Rules = change(role.Rules)
			err = errors.Join(err, env.client.Update(ctx, role))
		} else {
			role := &rbacv1.Role{}
			err = env.client.Get(ctx, key, role)
			role.Rules = change(role.Rules)
			err = errors.Join(err, env.client.Update(ctx, role))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	rules, err := chartRules(right.service)
	if err != nil {
		t.Fatal(err)
	}
	set(func(have []rbacv1.PolicyRule) []rbacv1.PolicyRule {
		for i := range have {
			if slices.Contains(have[i].APIGroups, right.group) && slices.Contains(have[i].Resources, right.resource) {
				have[i].Verbs = slices.DeleteFunc(have[i].Verbs, func(v string) bool { return v == right.verb })
			}
		}
		return slices.DeleteFunc(have, func(r rbacv1.PolicyRule) bool { return len(r.Verbs) == 0 })
	})
	giveBack = func() {
		set(func([]rbacv1.PolicyRule) []rbacv1.PolicyRule { return rules[scope] })
	}
	t.Cleanup(giveBack)
	return giveBack
}
