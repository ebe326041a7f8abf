package stager

import (
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	good := options{museumURL: "http://museum:8080", artifactURL: "http://stager", artifactAddr: ":9790", workers: 1, cacheMiB: 1}
	for name, c := range map[string]struct {
		change func(*options)
		say    string
	}{
		"Good":     {func(*options) {}, ""},
		"None":     {func(o *options) { o.museumURL = "" }, "--chartmuseum-url is missing"},
		"NotHTTP":  {func(o *options) { o.artifactURL = "oci://stager" }, "--artifact-url"},
		"Nowhere":  {func(o *options) { o.artifactURL = "" }, "--artifact-url"},
		"Address":  {func(o *options) { o.artifactAddr = "here" }, "--artifact-addr"},
		"Password": {func(o *options) { o.museumURL = "http://user:canary@museum" }, "leave them out"},
		"Secret":   {func(o *options) { o.stagingSecret = "orkestra-chartmuseum" }, ""},
		"Secrets":  {func(o *options) { o.stagingSecret = "orkestra/museum" }, "--staging-secret"},
		"Workers":  {func(o *options) { o.workers = 0 }, "--workers"},
		"Cache":    {func(o *options) { o.cacheMiB = 0 }, "--chart-cache-size"},
		"Hosts": {func(o *options) {
			o.allowHosts = []string{"ghcr.io", "*.example.com"}
			o.plainHosts = []string{"registry:5000"}
		}, ""},
		"HostURL":  {func(o *options) { o.allowHosts = []string{"https://ghcr.io"} }, "--allow-hosts"},
		"HostPath": {func(o *options) { o.plainHosts = []string{"registry:5000/charts"} }, "--plain-http-hosts"},
		"Collect":  {func(o *options) { o.collectGrace = -1 }, "--collect-grace"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			c.change(&o)
			err := o.validate()
			if c.say == "" && err != nil || c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), "canary")) {
				t.Errorf("got %v, want it to say %q", err, c.say)
			}
		})
	}
}
