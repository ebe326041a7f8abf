// Package repository is a chart repository in a test's own process, of any of the kinds
// that groups name: charts can be added while it serves, every request is counted, and
// it can go away and come back.
package repository

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"

	ociserver "github.com/google/go-containerregistry/pkg/registry"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/services/stager/archive"
)

// Kind of a repository: how it is spoken to, and what it asks for.
type Kind string

// The kinds. All listen on loopback; those of OCI without TLS, which is what the
// registry package takes for granted there.
const (
	HTTP          Kind = "http"
	HTTPBasicAuth Kind = "http-basic-auth"
	MutualTLS     Kind = "mutual-tls"
	OCI           Kind = "oci"
	// OCIAuth gives a bearer token to who logs in.
	OCIAuth Kind = "oci-auth"
)

// Kinds is all of them.
func Kinds() []Kind { return []Kind{HTTP, HTTPBasicAuth, MutualTLS, OCI, OCIAuth} }

// Name and password where one is asked for. The password is a canary: it may be seen
// nowhere but in its Secret.
const (
	Username = "orkestra"
	Password = "canary-of-the-repository"
)

// Files are a chart's files by path. Chart.yaml is written where it is missing.
type Files map[string]string

// Chart to serve.
type Chart struct {
	Name, Version string
	Files         Files
}

// Server is a repository.
type Server struct {
	// URL to name in a group.
	URL string
	// Kind of the repository.
	Kind Kind

	address string
	server  *http.Server
	tls     *tls.Config // nil without
	secret  map[string][]byte
	content content

	mu   sync.Mutex
	hits map[string]int
}

// content of a repository.
type content interface {
	http.Handler
	// add a chart's archive.
	add(name, version string, data []byte) error
}

// New serves an empty repository over HTTP until Close.
func New() *Server {
	s, err := Start(HTTP)
	if err != nil {
		panic(fmt.Sprintf("serving a repository on loopback: %v", err))
	}
	return s
}

// Start serves charts until Close.
func Start(kind Kind, charts ...Chart) (*Server, error) {
	s := &Server{Kind: kind, hits: map[string]int{}, address: "127.0.0.1:0"}
	scheme, path := "http", ""
	switch kind {
	case HTTP, HTTPBasicAuth, MutualTLS:
		s.content = &shelf{charts: map[string][]byte{}, index: map[string][]entry{}}
	case OCI, OCIAuth:
		scheme, path = "oci", "/charts"
		s.content = &depot{Server: s, Handler: ociserver.New(ociserver.Logger(log.New(io.Discard, "", 0)), ociserver.WithReferrersSupport(true))}
	default:
		return nil, fmt.Errorf("there is no repository of kind %q", kind)
	}
	if kind == MutualTLS {
		var err error
		if s.tls, s.secret, err = mutualTLS(); err != nil {
			return nil, err
		}
		scheme = "https"
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	s.URL = scheme + "://" + s.address + path
	if kind == HTTPBasicAuth {
		s.secret = map[string][]byte{"username": []byte(Username), "password": []byte(Password)}
	}
	if kind == OCIAuth {
		s.secret = map[string][]byte{corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths":{%q:{"username":%q,"password":%q}}}`, s.address, Username, Password)}
	}
	for _, c := range charts {
		if err := s.Add(c.Name, c.Version, c.Files); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// listen at the address, which is chosen the first time.
func (s *Server) listen() error {
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		return fmt.Errorf("listening at %s: %w", s.address, err)
	}
	s.address = l.Addr().String()
	s.server = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0)}
	if s.tls != nil {
		l = tls.NewListener(l, s.tls)
	}
	go func(server *http.Server) { _ = server.Serve(l) }(s.server) // ends with ErrServerClosed
	return nil
}

// Close stops serving, at once: what is under way is cut off.
func (s *Server) Close() { _ = s.server.Close() }

// Restart listens again, at the same address, with the same charts: after a Close, or
// instead of one.
func (s *Server) Restart() error {
	s.Close()
	return s.listen()
}

// SecretData is what the Secret that a group names in authSecretRef has to hold; nil
// where none is needed.
func (s *Server) SecretData() map[string][]byte { return s.secret }

// Secret for authSecretRef; nil where none is needed.
func (s *Server) Secret(namespace, name string) *corev1.Secret {
	if s.secret == nil {
		return nil
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: corev1.SecretTypeOpaque, Data: s.secret}
	if _, ok := s.secret[corev1.DockerConfigJsonKey]; ok {
		secret.Type = corev1.SecretTypeDockerConfigJson
	}
	return secret
}

// Hits is how often a path was asked for.
func (s *Server) Hits(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits[path]
}

// Requests is how often anything was asked for.
func (s *Server) Requests() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, hits := range s.hits {
		n += hits
	}
	return n
}

// Add packs a chart and serves it.
func (s *Server) Add(name, version string, files Files) error {
	data, err := Pack(name, version, files)
	if err != nil {
		return err
	}
	if err := s.content.add(name, version, data); err != nil {
		return fmt.Errorf("adding chart %s %s: %w", name, version, err)
	}
	return nil
}

// Pack makes the archive of a chart.
func Pack(name, version string, files Files) ([]byte, error) {
	list := make([]archive.File, 0, len(files)+1)
	if _, ok := files["Chart.yaml"]; !ok {
		list = append(list, archive.File{Name: "Chart.yaml", Data: fmt.Appendf(nil, "apiVersion: v2\nname: %s\nversion: %s\n", name, version)})
	}
	for f, data := range files {
		list = append(list, archive.File{Name: f, Data: []byte(data)})
	}
	return archive.Write(name, list)
}

// ServeHTTP counts, and answers who may ask.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.hits[r.URL.Path]++
	s.mu.Unlock()
	if slices.Contains([]Kind{HTTPBasicAuth, OCIAuth}, s.Kind) && !s.admit(w, r) {
		return
	}
	s.content.ServeHTTP(w, r)
}
