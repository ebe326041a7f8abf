package command

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/cli/internal/doctor"
)

func TestProbes(t *testing.T) {
	t.Parallel()
	got, err := allProbes(map[string]string{"auditor": "https://audit.example.com/readyz"}, []string{
		"ORKESTRA_EXECUTOR_2_HEALTH_URL=http://127.0.0.1:8081/healthz", "CHARTMUSEUM_URL=http://127.0.0.1:8080", "OTHER_HEALTH_URL=http://127.0.0.1", "ORKESTRA_INTAKE_HEALTH_URL=",
	})
	want := map[string]string{"auditor": "https://audit.example.com/readyz", "executor-2": "http://127.0.0.1:8081/readyz", "chartmuseum": "http://127.0.0.1:8080/health"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, wrong := range []string{"file:///etc/passwd", "http://", "127.0.0.1:8081", "http://name:secret@127.0.0.1", "::"} {
		_, err := allProbes(map[string]string{"intake": wrong}, nil)
		if err == nil || !strings.Contains(err.Error(), "--probe intake") || strings.Contains(err.Error(), "secret") {
			t.Errorf("--probe intake=%s: %v", wrong, err)
		}
	}
}

// A cluster that does not answer is no healthy one, and no sick one either.
func TestDoctorSaysWhatItCouldNotSee(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{})
	// Nobody listens on port 1, and none of the environment is to be asked.
	for _, variable := range []string{"NATS_URL", "ORKESTRA_NATS_URL", "NATS_NKEY", "NATS_CA", "CHARTMUSEUM_URL"} {
		t.Setenv(variable, "")
	}
	code, out, errs := w.run("doctor", "-o", "json", "--timeout", "2s", "--server", "https://127.0.0.1:1")
	var report doctor.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v: %s %s", err, out, errs)
	}
	if code != exitUnknown || errs != "" {
		t.Errorf("exit code %d, want %d; errors %q", code, exitUnknown, errs)
	}
	unseen := 0
	for _, c := range report.Checks {
		if c.Level == doctor.Unknown {
			unseen++
		}
	}
	const least = 9 // cluster, crds, services, bus, permissions, admission, policies, argo, flux, groups ...
	if unseen < least {
		t.Errorf("%d checks say that they could not look, want %d at least: %+v", unseen, least, report.Checks)
	}
}

func TestDoctorRefusesNonsense(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{})
	w.says(2, "", "--output \"xml\"", "doctor", "-o", "xml")
	w.says(2, "", "--probe x", "doctor", "--probe", "x=nowhere")
	t.Setenv("KUBECONFIG", "/there-is-none")
	w.says(2, "", "loading the kubeconfig", "doctor")
}
