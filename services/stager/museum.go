package stager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/chartmuseum/helm-push/pkg/chartmuseum"
	"sigs.k8s.io/yaml"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/retention"
	"orkestra.dev/services/stager/stage"
)

// museum is the staging repository: one repository per tenant. Its errors are
// refusals with reason StagingUnavailable.
type museum interface {
	// Held are the digests of a tenant's charts.
	Held(ctx context.Context, tenant string) (held, error)
	// Stored are the times at which a tenant's charts were pushed.
	Stored(ctx context.Context, tenant string) (map[retention.Archive]time.Time, error)
	// Push adds a piece, and returns the digest of what the museum holds then: where
	// there was something under the piece's name and version, that stays.
	Push(ctx context.Context, tenant string, p stage.Piece) (digest string, err error)
	archives
	// Remove takes a chart away; one that is not there is a success.
	Remove(ctx context.Context, tenant string, c museumChart) error
}

// notThere: ChartMuseum, or whoever answers in its place, does not have it.
type notThere struct{ error }

// museumChart is a chart in the museum.
type museumChart struct{ Name, Version string }

// held are digests, sha256:<hex>.
type held map[museumChart]string

const (
	museumTimeout = 30 * time.Second
	// maxListing bounds the list of a tenant's charts, in bytes.
	maxListing = 50 << 20
)

// chartMuseum is the museum over HTTP.
type chartMuseum struct {
	base  *url.URL
	http  *http.Client
	login login
}

func newMuseum(raw string, as login) (*chartMuseum, error) {
	base, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("the URL of ChartMuseum does not parse")
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	return &chartMuseum{base: base, http: &http.Client{Timeout: museumTimeout}, login: as}, nil
}

func unavailable(format string, args ...any) error {
	return refusal.Becausef(v1alpha1.ReasonStagingUnavailable, format, args...)
}

// entry of a museum's list.
type entry struct {
	Name, Version, Digest string
	Created               time.Time
}

// list reads the index of a tenant, which is one group. It does not ask for
// /api/<tenant>/charts: ChartMuseum encodes that while an upload may write it, and dies.
func (m *chartMuseum) list(ctx context.Context, tenant string) ([]entry, error) {
	body, err := m.request(ctx, http.MethodGet, maxListing, tenant, "index.yaml")
	if err != nil {
		return nil, err
	}
	var index struct{ Entries map[string][]entry }
	err = yaml.Unmarshal(body, &index)
	if err == nil && index.Entries == nil { // an answer of somebody else's
		err = errors.New("it has no entries")
	}
	if err != nil {
		return nil, unavailable("ChartMuseum at %s does not list its charts: %w", m.base, err)
	}
	return slices.Concat(slices.Collect(maps.Values(index.Entries))...), nil
}

func (m *chartMuseum) Held(ctx context.Context, tenant string) (held, error) {
	all, err := m.list(ctx, tenant)
	if err != nil {
		return nil, err
	}
	h := held{}
	for _, e := range all {
		h[museumChart{e.Name, e.Version}] = "sha256:" + e.Digest
	}
	return h, nil
}

func (m *chartMuseum) Stored(ctx context.Context, tenant string) (map[retention.Archive]time.Time, error) {
	all, err := m.list(ctx, tenant)
	if err != nil {
		return nil, err
	}
	stored := map[retention.Archive]time.Time{}
	for _, e := range all {
		stored[retention.Archive{Name: e.Name, Version: e.Version}] = e.Created
	}
	return stored, nil
}

// Push uploads with helm-push, which takes a file, no context, and every answer
// for a success.
func (m *chartMuseum) Push(ctx context.Context, tenant string, p stage.Piece) (digest string, err error) {
	username, password, err := m.login.read()
	if err != nil {
		return "", err
	}
	defer func() { err = discreet(err, username, password) }()
	f, err := os.CreateTemp("", "orkestra-*.tgz")
	if err != nil {
		return "", fmt.Errorf("making a file for the upload: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(p.Archive)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("writing a file for the upload: %w", err)
	}
	c, err := chartmuseum.NewClient(
		chartmuseum.Username(username),
		chartmuseum.Password(password),
		chartmuseum.URL(m.base.JoinPath(tenant).String()),
		chartmuseum.ContextPath(m.base.Path),
		chartmuseum.Timeout(int64(museumTimeout/time.Second)),
	)
	if err != nil {
		return "", fmt.Errorf("making a client for ChartMuseum: %w", err)
	}
	transport := c.Transport
	defer c.CloseIdleConnections()
	c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) { return transport.RoundTrip(r.WithContext(ctx)) })
	resp, err := c.UploadChartPackage(f.Name(), false)
	if err != nil {
		return "", m.failed(ctx, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusCreated:
		return p.Digest, nil
	case http.StatusConflict:
		// Somebody was faster, or the museum's index is behind its store: only the
		// archive itself tells.
		body, err := m.Archive(ctx, tenant, museumChart{p.Chart, p.Version})
		if err != nil {
			return "", err
		}
		return archive.Digest(body), nil
	default:
		return "", unavailable("ChartMuseum at %s does not take chart %s %s: it answered %s%s", m.base, p.Chart, p.Version, resp.Status, m.cause(resp))
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Archive is read as it is: what is in it is for whoever opens it.
func (m *chartMuseum) Archive(ctx context.Context, tenant string, c museumChart) ([]byte, error) {
	return m.request(ctx, http.MethodGet, archive.DefaultLimits.Bytes, tenant, "charts", c.Name+"-"+c.Version+archiveSuffix)
}

// Remove deletes by name and version.
func (m *chartMuseum) Remove(ctx context.Context, tenant string, c museumChart) error {
	_, err := m.request(ctx, http.MethodDelete, 1<<20, "api", tenant, "charts", c.Name, c.Version)
	return err
}

// request makes one; what is to be deleted may be gone.
func (m *chartMuseum) request(ctx context.Context, method string, limit int64, elements ...string) (_ []byte, err error) {
	username, password, err := m.login.read()
	if err != nil {
		return nil, err
	}
	defer func() { err = discreet(err, username, password) }()
	u := *m.base
	u.Path = path.Join(append([]string{"/", m.base.Path}, elements...)...)
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("asking ChartMuseum: %w", err)
	}
	if username != "" {
		req.SetBasicAuth(username, password)
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return nil, m.failed(ctx, err)
	}
	defer resp.Body.Close()
	ok := []int{http.StatusOK}
	if method == http.MethodDelete {
		ok = append(ok, http.StatusNotFound)
	}
	switch {
	case slices.Contains(ok, resp.StatusCode):
	case resp.StatusCode == http.StatusNotFound:
		return nil, refusal.Because(v1alpha1.ReasonStagingUnavailable, notThere{m.answered(resp, method, u.Path)})
	default:
		return nil, refusal.Because(v1alpha1.ReasonStagingUnavailable, m.answered(resp, method, u.Path))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, m.failed(ctx, err)
	}
	if int64(len(body)) > limit {
		return nil, unavailable("ChartMuseum at %s answered with more than %d bytes to %s %s", m.base, limit, method, u.Path)
	}
	return body, nil
}

func (m *chartMuseum) answered(resp *http.Response, method, path string) error {
	return fmt.Errorf("ChartMuseum at %s answered %s to %s %s%s", m.base, resp.Status, method, path, m.cause(resp))
}

func (m *chartMuseum) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // we are told to stop
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return unavailable("reaching ChartMuseum at %s: %w", m.base, err)
}

// cause is what the museum gives as the cause, or what we know of it.
func (m *chartMuseum) cause(resp *http.Response) string {
	switch {
	case resp.StatusCode != http.StatusUnauthorized:
		return said(resp.Body)
	case m.login == "":
		return ": it wants a username and a password, see --staging-credentials"
	default:
		return ": it takes another username and password than those of --staging-credentials"
	}
}

// said is what the museum gives as the cause: {"error": "..."}.
func said(body io.Reader) string {
	var answer struct{ Error string }
	if err := json.NewDecoder(io.LimitReader(body, 4<<10)).Decode(&answer); err != nil || answer.Error == "" {
		return ""
	}
	return ": " + answer.Error
}
