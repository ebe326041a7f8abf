package repository

import (
	"fmt"
	"net/http"
	"strings"

	helmregistry "helm.sh/helm/v3/pkg/registry"
)

// token that who has logged in gets.
const token = "canary-token-of-the-repository"

// depot is an OCI registry. Charts come into it as Helm itself pushes them.
type depot struct {
	*Server
	http.Handler
}

func (d *depot) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.Handler.ServeHTTP(w, r) }

func (d *depot) add(name, version string, data []byte) error {
	helm, err := helmregistry.NewClient(helmregistry.ClientOptPlainHTTP(), helmregistry.ClientOptBasicAuth(Username, Password))
	if err != nil {
		return fmt.Errorf("making a client of Helm: %w", err)
	}
	_, err = helm.Push(data, strings.TrimPrefix(d.URL, "oci://")+"/"+name+":"+version)
	return err
}

// admit who may ask: over HTTP with name and password, in a registry with a token that
// its path /token gives for them.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) bool {
	user, password, _ := r.BasicAuth()
	known := user == Username && password == Password
	switch {
	case s.Kind == HTTPBasicAuth && known:
		return true
	case s.Kind == HTTPBasicAuth:
		w.Header().Set("WWW-Authenticate", `Basic realm="charts"`)
	case r.URL.Path == "/token" && known:
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"token":%q}`, token)
		return false
	case r.Header.Get("Authorization") == "Bearer "+token:
		return true
	case r.URL.Path != "/token":
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="charts"`, s.address))
	}
	http.Error(w, "who are you?", http.StatusUnauthorized)
	return false
}
