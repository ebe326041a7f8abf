package receive

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"orkestra.dev/pkg/events"
)

// deployBody is a deploy request as it is sent.
type deployBody struct {
	Group       string          `json:"group"`
	Application string          `json:"application"`
	Version     string          `json:"version,omitempty"`
	Values      json.RawMessage `json:"values,omitempty"`
}

// chartBody is a chart version as it is sent to us in a form of our own.
type chartBody struct {
	Registry string `json:"registry"`
	Name     string `json:"name"`
	Version  string `json:"version"`
	Digest   string `json:"digest,omitempty"`
}

// What a body of our own form asks for, as spec.events names it.
const (
	eventDeploy    = "deploy"
	eventChart     = "chart"
	eventReconcile = "reconcile"
)

// generic reads the form that is our own: one deploy request, or lists, or a wish.
func generic(r request) (Delivery, error) {
	var body struct {
		ID string `json:"id"`
		deployBody
		Deploys   []deployBody `json:"deploys"`
		Charts    []chartBody  `json:"charts"`
		Reconcile bool         `json:"reconcile"`
	}
	if err := decode(r.body, &body, true); err != nil {
		return Delivery{}, err
	}
	d := Delivery{ID: body.ID}
	if d.ID == "" { // what is asked for again is a retry for a while, and later a new wish
		d.ID = r.digest(r.at.UTC().Truncate(sameFor).Format(time.RFC3339))
	}
	if body.Group != "" || body.Application != "" || body.Version != "" || body.Values != nil {
		body.Deploys = append(body.Deploys, body.deployBody)
	}
	var asked []string
	if len(body.Deploys) > 0 {
		asked = append(asked, eventDeploy)
	}
	if len(body.Charts) > 0 {
		asked = append(asked, eventChart)
	}
	if body.Reconcile {
		asked = append(asked, eventReconcile)
	}
	if len(asked) != 1 {
		return d, malformed("the body asks for nothing, or for several things: give group, application and version or values; or deploys; or charts; or reconcile")
	}
	d.Event, d.Reconcile = asked[0], body.Reconcile
	for i, b := range body.Deploys {
		deploy, err := deployOf(b)
		if err != nil {
			return d, malformed("deploy request %d: %v", i+1, err)
		}
		d.Deploys = append(d.Deploys, deploy)
	}
	for _, c := range body.Charts {
		d.Charts = append(d.Charts, events.ChartVersion(c))
	}
	return d, nil
}

// github reads package and registry_package, which name what was pushed, and push and
// release, which do not. https://docs.github.com/en/webhooks/webhook-events-and-payloads
func github(r request) (Delivery, error) {
	type pack struct {
		PackageVersion struct {
			PackageURL        string `json:"package_url"`
			ContainerMetadata *struct {
				Tag struct {
					Name   string `json:"name"`
					Digest string `json:"digest"`
				} `json:"tag"`
			} `json:"container_metadata"`
		} `json:"package_version"`
	}
	d := Delivery{ID: r.header.Get("X-GitHub-Delivery"), Event: r.header.Get("X-GitHub-Event")}
	var body struct {
		Action          string `json:"action"`
		Package         pack   `json:"package"`
		RegistryPackage pack   `json:"registry_package"`
	}
	if err := decode(r.body, &body, false); err != nil {
		return d, err
	}
	pushed := body.Package.PackageVersion
	switch d.Event {
	case "":
		return d, malformed("the header X-GitHub-Event is missing")
	case "push", "release":
		d.Reconcile = true
		return d, nil
	case "package":
	case "registry_package":
		pushed = body.RegistryPackage.PackageVersion
	default:
		d.Ignored = "this event says nothing of charts"
		return d, nil
	}
	if pushed.ContainerMetadata == nil {
		d.Ignored = "the package is not in a container registry"
		return d, nil
	}
	// The names of packages keep the case of their owner; those of OCI have none.
	ref := strings.ToLower(pushed.PackageURL)
	tag := pushed.ContainerMetadata.Tag
	registry, name, inRef := splitReference(ref)
	if tag.Name == "" {
		tag.Name = inRef
	}
	d.tagged(registry, name, tag.Name, tag.Digest)
	return d, nil
}

// gitlab reads pushes, tags and releases, which do not say which chart they are about.
// https://docs.gitlab.com/user/project/integrations/webhooks/
func gitlab(r request) (Delivery, error) {
	var body struct {
		ObjectKind string `json:"object_kind"`
		EventName  string `json:"event_name"`
	}
	if err := decode(r.body, &body, false); err != nil {
		return Delivery{}, err
	}
	d := Delivery{ID: r.header.Get("Idempotency-Key"), Event: body.ObjectKind}
	if d.ID == "" {
		d.ID = r.header.Get("X-Gitlab-Event-UUID")
	}
	if d.Event == "" {
		d.Event = body.EventName
	}
	if d.Event == "" {
		return d, malformed("object_kind is missing")
	}
	d.Reconcile = slices.Contains([]string{"push", "tag_push", "release"}, d.Event)
	if !d.Reconcile {
		d.Ignored = "this event says nothing of charts"
	}
	return d, nil
}

// dockerHub reads the one event that there is. https://docs.docker.com/docker-hub/webhooks/
func dockerHub(r request) (Delivery, error) {
	var body struct {
		PushData struct {
			Tag string `json:"tag"`
		} `json:"push_data"`
		Repository struct {
			RepoName string `json:"repo_name"`
		} `json:"repository"`
	}
	d := Delivery{Event: "push"}
	if err := decode(r.body, &body, false); err != nil {
		return d, err
	}
	if body.Repository.RepoName == "" {
		return d, malformed("repository.repo_name is missing")
	}
	registry, name, _ := splitReference("docker.io/" + body.Repository.RepoName)
	d.tagged(registry, name, body.PushData.Tag, "")
	return d, nil
}

// quay reads repository_push, which is what has updated tags; older versions say their
// digests too. https://docs.quay.io/guides/notifications.html
func quay(r request) (Delivery, error) {
	var body struct {
		DockerURL   string          `json:"docker_url"`
		UpdatedTags json.RawMessage `json:"updated_tags"`
	}
	d := Delivery{Event: "repo_push"}
	if err := decode(r.body, &body, false); err != nil {
		return d, err
	}
	if body.UpdatedTags == nil {
		d.Event, d.Ignored = "other", "the event names no tags that were updated"
		return d, nil
	}
	var tags []string
	var byTag map[string]json.RawMessage
	if json.Unmarshal(body.UpdatedTags, &byTag) == nil {
		for tag := range byTag {
			tags = append(tags, tag)
		}
		slices.Sort(tags)
	} else if err := json.Unmarshal(body.UpdatedTags, &tags); err != nil {
		return d, malformed("updated_tags is neither a list nor an object")
	}
	registry, name, _ := splitReference(body.DockerURL)
	for _, tag := range tags {
		d.tagged(registry, name, tag, "")
	}
	return d, nil
}

// harborEvent is event_data of Harbor's own format, and data of its CloudEvents.
type harborEvent struct {
	Resources []struct {
		Digest      string `json:"digest"`
		Tag         string `json:"tag"`
		ResourceURL string `json:"resource_url"`
	} `json:"resources"`
}

// harbor reads pushes, in both of Harbor's formats.
// https://goharbor.io/docs/latest/working-with-projects/project-configuration/configure-webhooks/
func harbor(r request) (Delivery, error) {
	var d Delivery
	var data harborEvent
	if isCloudEvent(r.header) {
		list, err := r.cloudEvents()
		if err != nil {
			return d, err
		}
		if len(list) != 1 {
			return d, malformed("Harbor sends one event at a time")
		}
		d.ID, d.Event = idOf(list[0]), list[0].Type()
		if err := decode(list[0].Data(), &data, false); err != nil {
			return d, err
		}
	} else {
		var body struct {
			Type      string      `json:"type"`
			EventData harborEvent `json:"event_data"`
		}
		if err := decode(r.body, &body, false); err != nil {
			return d, err
		}
		d.Event, data = body.Type, body.EventData
	}
	if d.Event == "" {
		return d, malformed("type is missing")
	}
	if !slices.Contains([]string{"PUSH_ARTIFACT", "harbor.artifact.pushed"}, d.Event) {
		d.Ignored = "this event says nothing of a push"
		return d, nil
	}
	for _, pushed := range data.Resources {
		registry, name, _ := splitReference(pushed.ResourceURL)
		d.tagged(registry, name, pushed.Tag, pushed.Digest)
	}
	return d, nil
}

// distribution reads the envelopes of the CNCF's registry.
// https://distribution.github.io/distribution/about/notifications/
func distribution(r request) (Delivery, error) {
	var body struct {
		Events []struct {
			ID     string `json:"id"`
			Action string `json:"action"`
			Target struct {
				Digest     string `json:"digest"`
				Repository string `json:"repository"`
				Tag        string `json:"tag"`
			} `json:"target"`
			Request struct {
				Host string `json:"host"`
			} `json:"request"`
		} `json:"events"`
	}
	d := Delivery{Event: "push"}
	if err := decode(r.body, &body, false); err != nil {
		return d, err
	}
	if len(body.Events) == 1 {
		d.ID = body.Events[0].ID
	}
	for _, e := range body.Events {
		if e.Action == "push" && e.Target.Tag != "" { // a layer has none
			registry, name, _ := splitReference(e.Request.Host + "/" + e.Target.Repository)
			d.tagged(registry, name, e.Target.Tag, e.Target.Digest)
		}
	}
	return d, nil
}

// chartMuseum reads an entry as ChartMuseum's own API has it, with the repository that
// it is in: ChartMuseum itself tells nobody.
func chartMuseum(r request) (Delivery, error) {
	var body struct {
		Repository string `json:"repository"`
		Name       string `json:"name"`
		Version    string `json:"version"`
		Digest     string `json:"digest"`
	}
	d := Delivery{Event: "upload"}
	if err := decode(r.body, &body, false); err != nil {
		return d, err
	}
	if body.Repository == "" {
		return d, malformed("repository is missing: the URL of the repository that has the chart")
	}
	if body.Digest != "" && !strings.HasPrefix(body.Digest, "sha256:") {
		body.Digest = "sha256:" + body.Digest // the index has the hex alone
	}
	d.Charts = []events.ChartVersion{{Registry: body.Repository, Name: body.Name, Version: body.Version, Digest: body.Digest}}
	return d, nil
}

// isCloudEvent tells by the headers.
func isCloudEvent(h http.Header) bool {
	return strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "application/cloudevents") || h.Get("Ce-Specversion") != ""
}
