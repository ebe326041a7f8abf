package receive

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// What a registry, a chart and a digest look like, in ASCII; no credentials, no query.
var (
	registryPattern = regexp.MustCompile(`^[a-z0-9._\[\]:-]+(/[A-Za-z0-9._~%+-]+)*$`)
	namePattern     = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$`)
	digestPattern   = regexp.MustCompile(`^sha256:[a-f0-9]{64}$`)
)

const (
	maxRegistry  = 512
	maxChartName = 250
	dockerHubIO  = "docker.io"
)

// dockerHubs are the names that Docker Hub goes by.
var dockerHubs = []string{dockerHubIO, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com"}

// Registry is the one form of a repository's address: host[:port][/path], without a
// scheme, credentials, the ports that schemes have anyway, or a slash at the end.
func Registry(address string) string {
	address = schemeless(address)
	if u, err := url.Parse("//" + address); err == nil && u.Host != "" {
		address = u.Host + u.EscapedPath()
	}
	host, path, _ := strings.Cut(address, "/")
	host = strings.ToLower(host)
	host = strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":80")
	if slices.Contains(dockerHubs, host) {
		host = dockerHubIO
	}
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if path = strings.Trim(path, "/"); path != "" {
		return host + "/" + path
	}
	return host
}

func schemeless(address string) string {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		return rest
	}
	return address
}

// below says whether a registry is, or is in, another.
func below(registry, prefix string) bool {
	return registry == prefix || strings.HasPrefix(registry, prefix+"/")
}

// splitReference takes <registry>/<name>[:<tag>][@<digest>] apart.
func splitReference(ref string) (registry, name, tag string) {
	ref, _, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(ref, '/'); i >= 0 {
		registry, name = ref[:i], ref[i+1:]
	} else {
		name = ref
	}
	name, tag, _ = strings.Cut(name, ":")
	return registry, name, tag
}

// tagged adds a chart by its tag in an OCI registry, where Helm writes "_" for the "+" of
// a version. A tag that is no version is of no chart.
func (d *Delivery) tagged(registry, name, tag, digest string) {
	version := strings.ReplaceAll(tag, "_", "+")
	if _, err := semver.NewVersion(version); err != nil || len(version) > maxVersion {
		return
	}
	if !digestPattern.MatchString(digest) {
		digest = ""
	}
	d.Charts = append(d.Charts, events.ChartVersion{Registry: registry, Name: name, Version: version, Digest: digest})
}

func checkChart(c events.ChartVersion) error {
	switch {
	case len(c.Registry) > maxRegistry || !registryPattern.MatchString(c.Registry):
		return errors.New("the registry must be a host with a path")
	case len(c.Name) > maxChartName || !namePattern.MatchString(c.Name):
		return errors.New("the name must be that of a chart")
	case c.Digest != "" && !digestPattern.MatchString(c.Digest):
		return errors.New("the digest must be sha256:<64 hex digits>")
	}
	if _, err := semver.NewVersion(c.Version); err != nil || len(c.Version) > maxVersion {
		return errors.New("the version must be a semantic version")
	}
	return nil
}

// Key is under which an index has the groups that use a chart: wherever the path of the
// repository ends and the name of the chart begins.
func Key(registry, name string) string { return Registry(registry) + "/" + strings.Trim(name, "/") }

// Keys of the charts that a group uses, sorted, each once.
func Keys(group *v1alpha1.ApplicationGroup) []string {
	var out []string
	for i := range group.Spec.Applications {
		c := &group.Spec.Applications[i].Spec.Chart
		out = append(out, Key(c.URL, c.Name))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Wants names the first application of a group that a chart version is news to: its
// range lets the version in, and what was staged for the spec as it is now is older.
func Wants(group *v1alpha1.ApplicationGroup, chart events.ChartVersion) (application string, ok bool) {
	key := Key(chart.Registry, chart.Name)
	pushed, err := semver.NewVersion(chart.Version)
	if err != nil {
		return "", false
	}
	for i := range group.Spec.Applications {
		app := &group.Spec.Applications[i]
		if Key(app.Spec.Chart.URL, app.Spec.Chart.Name) != key {
			continue
		}
		if allows(app.Spec.Chart.Version, pushed, chart.Version) && !settled(group, app, pushed) {
			return app.Name, true
		}
	}
	return "", false
}

// allows reads a version or a range as Helm does, and as the stager: what is written so,
// else what the range lets in.
func allows(constraint string, version *semver.Version, written string) bool {
	if constraint == "" {
		constraint = "*"
	}
	if constraint == written {
		return true
	}
	c, err := semver.NewConstraint(constraint)
	return err == nil && c.Check(version)
}

// settled: for the spec as it is now the application was staged at that version, or at a
// newer one that its range lets in.
func settled(group *v1alpha1.ApplicationGroup, app *v1alpha1.Application, pushed *semver.Version) bool {
	staged := apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionStaged)
	if staged == nil || staged.Status != metav1.ConditionTrue || staged.ObservedGeneration != group.Generation {
		return false
	}
	for _, s := range group.Status.Applications {
		if s.Name != app.Name || !s.Staged {
			continue
		}
		have, err := semver.NewVersion(s.Version)
		return err == nil && allows(app.Spec.Chart.Version, have, s.Version) && !pushed.GreaterThan(have)
	}
	return false
}

// Reaches says whether a Receiver may speak of a group: it selects the group, and is in
// the namespace home, Orkestra's own, or in that of all of the group's releases.
func Reaches(receiver *v1alpha1.Receiver, group *v1alpha1.ApplicationGroup, home string) bool {
	if !receiver.Spec.Groups.Selects(group) {
		return false
	}
	return receiver.Namespace == home || !slices.ContainsFunc(group.Spec.Applications, func(a v1alpha1.Application) bool {
		return a.Spec.Release.TargetNamespace != receiver.Namespace
	})
}
