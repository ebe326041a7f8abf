package chart

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"orkestra.dev/test/chart/installations"
)

// Who takes webhooks takes them by TLS where a Secret is named, on a port that the API server's calls have not.
func TestReceiversByTLS(t *testing.T) {
	for name, tt := range map[string]struct {
		values     map[string]any
		deployment string
		secret     string
		port       int32
	}{
		"Plain":  {values: map[string]any{}, deployment: "orkestra-intake", port: 80},
		"TLS":    {values: map[string]any{"receivers": map[string]any{"tlsSecret": "hooks"}}, deployment: "orkestra-intake", secret: "hooks", port: 8443},
		"Single": {values: map[string]any{"mode": "single", "receivers": map[string]any{"tlsSecret": "hooks"}}, deployment: "orkestra-single", secret: "hooks", port: 8443},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := mustRender(t, installations.Installation{Values: tt.values})
			var d appsv1.Deployment
			object(t, all, "Deployment", tt.deployment, &d)
			pod := d.Spec.Template.Spec
			if got := secretsOf(pod)["receiver"]; got != tt.secret {
				t.Errorf("the certificate comes from Secret %q, want %q", got, tt.secret)
			}
			if got := slices.ContainsFunc(pod.Containers[0].Args, func(a string) bool { return strings.HasPrefix(a, "--receiver-tls-") }); got != (tt.secret != "") {
				t.Errorf("by TLS: %t in %q", got, pod.Containers[0].Args)
			}
			var s corev1.Service
			object(t, all, "Service", "orkestra-intake", &s)
			ports := map[string]int32{}
			for _, p := range s.Spec.Ports {
				ports[p.Name] = p.Port
			}
			if ports["receiver"] != tt.port || ports["webhook"] != 443 {
				t.Errorf("ports %v, want the receiver's to be %d", ports, tt.port)
			}
		})
	}
}
