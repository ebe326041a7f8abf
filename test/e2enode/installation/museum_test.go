package installation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	corev1 "k8s.io/api/core/v1"

	"orkestra.dev/test/e2enode/realnode"
)

// withoutPassword is what templates say today, and what they said when ChartMuseum asked nobody for a password.
var withoutPassword = map[string][][2]string{
	"templates/_helpers.tpl": {{`{{ include "orkestra.name" . }}-chartmuseum
{{- end }}`, `{{- end }}`}},
	"templates/chartmuseum.yaml": {
		{`{{- if not .Values.chartmuseum.auth.secret }}`, `{{- if false }}`},
		{`            - name: BASIC_AUTH_USER
              valueFrom: {secretKeyRef: {name: {{ $secret }}, key: username}}
            - name: BASIC_AUTH_PASS
              valueFrom: {secretKeyRef: {name: {{ $secret }}, key: password}}
`, ``},
	},
}

// chartWithoutPassword is a release of that time.
func (i *installation) chartWithoutPassword(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(filepath.Join(i.root, "deploy", "charts", "orkestra"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range c.Templates {
		for _, change := range withoutPassword[f.Name] {
			if !strings.Contains(string(f.Data), change[0]) {
				t.Fatalf("%s has no %q", f.Name, change[0])
			}
			f.Data = []byte(strings.Replace(string(f.Data), change[0], change[1], 1))
		}
	}
	return c
}

// upgraded: while groups roll out, all services are replaced by those of a release in which ChartMuseum has a password. The
// rollouts go on, those that were staged without it and those that begin meanwhile.
func (i *installation) upgraded(t *testing.T) {
	i.museumAnswers(t, http.StatusOK)
	before := i.services(t)
	r := i.underWay(t, "upgrade")
	i.upgrade(t, i.redundant("debug"), false)
	r.replaced(t, before)
	r.arrived(t)
	i.museumAnswers(t, http.StatusUnauthorized)
	r.remove(t)
}

// museumAnswers the node so, which the policies let in, and which has no password.
func (i *installation) museumAnswers(t *testing.T, want int) {
	t.Helper()
	realnode.Poll(t, fmt.Sprintf("ChartMuseum to answer %d to who has no password", want), func(ctx context.Context) error {
		pods := slices.DeleteFunc(i.podsOf(t), func(p corev1.Pod) bool { return component(p) != "chartmuseum" || !ready(p) })
		if len(pods) != 1 {
			return fmt.Errorf("%d pods of it are ready", len(pods))
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(pods[0].Status.PodIP, "8080")+"/api/any/charts", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		if resp.StatusCode != want {
			err = fmt.Errorf("it answers %s", resp.Status)
		}
		return errors.Join(err, resp.Body.Close())
	})
}
