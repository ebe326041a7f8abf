package command

import (
	"strings"
	"testing"
)

func TestServeRefusesWhatCannotWork(t *testing.T) {
	for want, args := range map[string][]string{
		"--all":             {"serve"},
		"--chartmuseum-url": {"serve", "--all"},
		"--nats-addr":       {"serve", "--all", "--chartmuseum-url", "http://127.0.0.1:1", "--nats-addr", ":4222"},
		"--no-such-flag":    {"serve", "--no-such-flag"},
	} {
		code, _, errs := run(t, "", args...)
		if code != 2 || !strings.Contains(errs, want) || !strings.Contains(errs, "orkestra serve --help") {
			t.Errorf("%v: exit code %d, want 2 and %q:\n%s", args, code, want, errs)
		}
	}
}
