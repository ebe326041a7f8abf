package v1alpha1

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	batchv1 "k8s.io/api/batch/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// namePattern is that of the schema; a test holds the two together.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)

// digestPattern is that of the schema.
var digestPattern = regexp.MustCompile(`^sha256:[a-f0-9]{64}$`)

// maxRetries is that of the schema.
const maxRetries = 10

// Validate says what is wrong with a group: what the schema says, for those who
// have no API server at hand, and what a schema cannot say, which is all that
// concerns two entries. Each error names its field and how to mend it; the same
// group gives the same errors in the same order. It does not see what only the
// chart can tell, such as whether a subchart exists.
func (g *ApplicationGroup) Validate() field.ErrorList {
	var errs field.ErrorList
	if len(g.Name) > MaxLabel {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), g.Name,
			fmt.Sprintf("may have at most %d characters, because it becomes the value of a label", MaxLabel)))
	}
	spec := field.NewPath("spec")
	errs = append(errs, validateDuration(spec.Child("interval"), g.Spec.Interval)...)
	errs = append(errs, oneOf(spec.Child("namespaceDeletionPolicy"), g.Spec.NamespaceDeletionPolicy, NamespacesKeep, NamespacesDelete)...)
	errs = append(errs, oneOf(spec.Child("executor"), g.Spec.Executor, ExecutorModeEvent, ExecutorModePod)...)
	if r := g.Spec.Remediation; r != nil {
		errs = append(errs, oneOf(spec.Child("remediation", "strategy"), r.Strategy, RemediationRollback, RemediationReverse, RemediationNone)...)
		if r.Retries < 0 || r.Retries > maxRetries {
			errs = append(errs, field.Invalid(spec.Child("remediation", "retries"), r.Retries, fmt.Sprintf("must be from 0 to %d", maxRetries)))
		}
	}

	applications := spec.Child("applications")
	if len(g.Spec.Applications) == 0 {
		return append(errs, field.Required(applications, "a group has at least one application"))
	}
	var dags []DAG
	for i := range g.Spec.Applications {
		a := &g.Spec.Applications[i]
		dags = append(dags, a.DAG)
		errs = append(errs, a.Spec.validate(applications.Index(i).Child("spec"))...)
	}
	errs = append(errs, validateDAG(applications, "application of the group", dags)...)
	return append(errs, validateObjectNames(applications, g.Spec.Applications)...)
}

func (s *ApplicationSpec) validate(path *field.Path) field.ErrorList {
	errs := s.Chart.validate(path.Child("chart"))
	errs = append(errs, s.Release.validate(path.Child("release"))...)
	errs = append(errs, validateDAG(path.Child("subcharts"), "entry of subcharts", s.Subcharts)...)
	errs = append(errs, oneOf(path.Child("parentPlacement"), s.ParentPlacement, ParentAfter, ParentBefore, ParentBeside)...)
	errs = append(errs, oneOf(path.Child("executor"), s.Executor, ExecutorModeEvent, ExecutorModePod)...)
	if len(s.Workflow) > 0 && !slices.ContainsFunc(s.Workflow, func(e Executor) bool { return e.Type != ExecutorJob && e.Type != ExecutorWait }) {
		errs = append(errs, field.Invalid(path.Child("workflow"), s.Workflow[0].Name,
			"no step installs the release: add an executor of type "+string(ExecutorHelmRelease)))
	}
	var executors []DAG
	for i := range s.Workflow {
		executors = append(executors, s.Workflow[i].DAG)
		errs = append(errs, s.Workflow[i].validate(path.Child("workflow").Index(i))...)
	}
	return append(errs, validateDAG(path.Child("workflow"), "entry of workflow", executors)...)
}

func (c *ChartRef) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), "name the chart"))
	}
	switch u, err := url.Parse(c.URL); {
	case c.URL == "":
		errs = append(errs, field.Required(path.Child("url"), "say which repository has the chart, such as https://charts.example.com"))
	case err != nil:
		errs = append(errs, field.Invalid(path.Child("url"), c.URL, "is not a URL: "+err.Error()))
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "oci":
		errs = append(errs, field.Invalid(path.Child("url"), c.URL, "must begin with https://, http:// or oci://"))
	case u.Hostname() == "":
		errs = append(errs, field.Invalid(path.Child("url"), c.URL, "has no host: it should look like https://charts.example.com"))
	}
	if c.Version != "" {
		// Helm looks for the version as it is written first, and then reads it as a
		// range; what is not a range is refused before it looks.
		if _, err := semver.NewConstraint(c.Version); err != nil {
			errs = append(errs, field.Invalid(path.Child("version"), c.Version,
				`is neither a version nor a range of versions: write one such as 1.2.3, v1, ">=1.2.0 <2" or "*"`))
		}
	}
	if c.Digest != "" && !digestPattern.MatchString(c.Digest) {
		errs = append(errs, field.Invalid(path.Child("digest"), c.Digest, "must be sha256: and 64 hexadecimal digits, as sha256sum prints them"))
	}
	if v := c.Verify; v != nil {
		errs = append(errs, v.validate(path.Child("verify"), c.URL)...)
	}
	if ref := c.AuthSecretRef; ref != nil {
		if ref.Name == "" {
			errs = append(errs, field.Required(path.Child("authSecretRef", "name"), "name the Secret"))
		}
		if ref.Kind != "" && ref.Kind != "Secret" {
			errs = append(errs, field.NotSupported(path.Child("authSecretRef", "kind"), ref.Kind, []string{"Secret"}))
		}
	}
	return errs
}

func (v *ChartVerification) validate(path *field.Path, url string) field.ErrorList {
	var errs field.ErrorList
	if v.Provider == "" {
		errs = append(errs, field.Required(path.Child("provider"), "say which proof to ask for"))
	}
	errs = append(errs, oneOf(path.Child("provider"), v.Provider, VerifyProvenance, VerifyCosign)...)
	if v.Provider == VerifyCosign && !strings.HasPrefix(url, "oci://") {
		errs = append(errs, field.Invalid(path.Child("provider"), v.Provider, "signatures of cosign are in OCI registries only: use Provenance, or an oci:// URL"))
	}
	if v.SecretRef.Name == "" {
		errs = append(errs, field.Required(path.Child("secretRef", "name"), "name the Secret with the public keys to trust"))
	}
	return errs
}

func (r *Release) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	namespace := path.Child("targetNamespace")
	if r.TargetNamespace == "" {
		errs = append(errs, field.Required(namespace, "say where to install the release"))
	} else {
		for _, problem := range validation.IsDNS1123Label(r.TargetNamespace) {
			errs = append(errs, field.Invalid(namespace, r.TargetNamespace, problem))
		}
	}
	errs = append(errs, validateObject(path.Child("values"), r.Values)...)
	for i, ref := range r.ValuesFrom {
		at := path.Child("valuesFrom").Index(i)
		errs = append(errs, oneOf(at.Child("kind"), ref.Kind, "ConfigMap", "Secret")...)
		if ref.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), "name the "+cmp.Or(ref.Kind, "object")))
		}
	}
	if r.MaxHistory != nil && *r.MaxHistory < 0 {
		errs = append(errs, field.Invalid(path.Child("maxHistory"), *r.MaxHistory, "must not be negative: 0 keeps all records"))
	}
	errs = append(errs, validateDuration(path.Child("interval"), &r.Interval)...)
	errs = append(errs, validateDuration(path.Child("timeout"), r.Timeout)...)
	if r.Install != nil {
		errs = append(errs, validateDuration(path.Child("install", "timeout"), r.Install.Timeout)...)
	}
	if r.Upgrade != nil {
		errs = append(errs, validateDuration(path.Child("upgrade", "timeout"), r.Upgrade.Timeout)...)
	}
	if r.Rollback != nil {
		errs = append(errs, validateDuration(path.Child("rollback", "timeout"), r.Rollback.Timeout)...)
	}
	if r.Uninstall != nil {
		errs = append(errs, validateDuration(path.Child("uninstall", "timeout"), r.Uninstall.Timeout)...)
	}
	if r.Test != nil {
		errs = append(errs, validateDuration(path.Child("test", "timeout"), r.Test.Timeout)...)
	}
	return errs
}

func (e *Executor) validate(path *field.Path) field.ErrorList {
	errs := oneOf(path.Child("type"), e.Type, ExecutorHelmRelease, ExecutorKeptn, ExecutorCustom, ExecutorJob, ExecutorWait)
	errs = append(errs, validateDuration(path.Child("timeout"), e.Timeout)...)
	if e.Type == ExecutorCustom {
		switch {
		case e.Image == nil:
			errs = append(errs, field.Required(path.Child("image"), "a custom executor runs a container: say which, or leave out the type"))
		case e.Image.Image == "":
			errs = append(errs, field.Required(path.Child("image", "image"), "name the image that the container of a custom executor runs"))
		}
	}
	switch {
	case e.Type == ExecutorJob && e.Job == nil:
		errs = append(errs, field.Required(path.Child("job"), "an executor of type job runs a Job: give its spec"))
	case e.Type == ExecutorJob:
		errs = append(errs, validateJob(path.Child("job"), e.Job)...)
	case e.Job != nil:
		errs = append(errs, field.Forbidden(path.Child("job"), "only an executor of type job has one"))
	}
	switch {
	case e.Type == ExecutorWait && e.Wait == nil:
		errs = append(errs, field.Required(path.Child("wait"), "an executor of type wait waits for an object: say for which"))
	case e.Type == ExecutorWait:
		errs = append(errs, e.Wait.validate(path.Child("wait"))...)
	case e.Wait != nil:
		errs = append(errs, field.Forbidden(path.Child("wait"), "only an executor of type wait has one"))
	}
	return errs
}

// validateJob reads the spec of a Job as strictly as kubectl does.
func validateJob(path *field.Path, job *apiextensionsv1.JSON) field.ErrorList {
	var spec batchv1.JobSpec
	decoder := json.NewDecoder(bytes.NewReader(job.Raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&spec); err != nil {
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, "is not the spec of a Job: "+err.Error())}
	}
	if len(spec.Template.Spec.Containers) == 0 {
		return field.ErrorList{field.Required(path.Child("template", "spec", "containers"), "say what the Job runs")}
	}
	return nil
}

func (w *WaitFor) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if w.APIVersion == "" {
		errs = append(errs, field.Required(path.Child("apiVersion"), "say of which API the object is, such as apps/v1"))
	} else if _, err := schema.ParseGroupVersion(w.APIVersion); err != nil {
		errs = append(errs, field.Invalid(path.Child("apiVersion"), w.APIVersion, "must look like v1 or apps/v1"))
	}
	if w.Kind == "" {
		errs = append(errs, field.Required(path.Child("kind"), "say of which kind the object is, such as Deployment"))
	}
	if w.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), "name the object to wait for"))
	}
	return errs
}

// oneOf refuses what is there and is none of the known.
func oneOf[T ~string](path *field.Path, value T, known ...T) field.ErrorList {
	if value == "" || slices.Contains(known, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, known)}
}

func validateDuration(path *field.Path, d *metav1.Duration) field.ErrorList {
	if d == nil || d.Duration >= 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, d.Duration.String(), "must not be negative: leave it out to have the default")}
}

// validateObject refuses a value that is there and not a JSON object.
func validateObject(path *field.Path, v *apiextensionsv1.JSON) field.ErrorList {
	if v == nil {
		return nil
	}
	raw := bytes.TrimSpace(v.Raw)
	if len(raw) == 0 || raw[0] == '{' || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	return field.ErrorList{field.TypeInvalid(path, string(raw), "must be an object, as in a values.yaml")}
}

func validateName(path *field.Path, name string) field.ErrorList {
	switch {
	case name == "":
		return field.ErrorList{field.Required(path, "give it a name")}
	case len(name) > MaxLabel:
		return field.ErrorList{field.TooLong(path, name, MaxLabel)}
	case DNSName(name) == "":
		return field.ErrorList{field.Invalid(path, name, "must have a letter or a digit, because it becomes part of object names")}
	case !namePattern.MatchString(name):
		return field.ErrorList{field.Invalid(path, name,
			`may have letters, digits, "-", "_" and ".", and begins and ends with a letter or a digit`)}
	default:
		return nil
	}
}

// quoted lists names in a message, or as many of them as anybody reads.
func quoted(names []string) string {
	const most = 10
	var b strings.Builder
	for i, name := range names {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(names)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", name)
	}
	return b.String()
}
