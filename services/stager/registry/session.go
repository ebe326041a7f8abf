package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"oras.land/oras-go/v2/errdef"
	ociref "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/refusal"
)

// Bounds of a list of tags. A page is at most 4 MiB.
const (
	maxTags     = 100_000
	maxTagPages = 1000
)

// session speaks to one repository of an OCI registry. It has to be closed.
type session struct {
	*ociRegistry
	ref   Ref
	repo  ociref.Reference
	home  *url.URL
	login login
	http  *client
	auth  *auth.Client
}

func (o *ociRegistry) open(ref Ref) (*session, error) {
	u, err := parseURL(ref.URL)
	if err != nil {
		return nil, err
	}
	if u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, refusal.Becausef(v1alpha1.ReasonRepositoryRefused,
			"%s: the URL of an OCI registry is oci://host[:port]/path; credentials are for the Secret in authSecretRef", u.Redacted())
	}
	repo := ociref.Reference{Registry: u.Host, Repository: strings.Trim(strings.Trim(u.Path, "/")+"/"+ref.Name, "/")}
	if err := errors.Join(repo.ValidateRegistry(), repo.ValidateRepository()); err != nil {
		return nil, refusal.Becausef(v1alpha1.ReasonRepositoryRefused,
			"%s with chart %q is not the name of an OCI repository: that is lower case, without tag or digest, which are for chart.version and chart.digest", u.Redacted(), ref.Name)
	}
	s := &session{ociRegistry: o, ref: ref, repo: repo}
	if s.login, err = ref.Credentials.login(u.Host, repo.Repository); err != nil {
		return nil, err
	}
	s.home = &url.URL{Scheme: "https", Host: repo.Host()}
	if o.plainHTTP(u.Host, s.login) {
		s.home.Scheme = "http"
	}
	s.http = o.client(s.home, s.login, true)
	s.auth = &auth.Client{
		Client:     &s.http.Client,
		Header:     http.Header{"User-Agent": {o.opts.UserAgent}},
		Cache:      o.cache(ref.repository() + "/" + ref.Name),
		Credential: s.credential,
	}
	return s, nil
}

func (s *session) close() { s.http.close() }

func (s *session) String() string { return s.home.Host + "/" + s.repo.Repository }

// cache of tokens. It goes with the Secret's content, which is in the key.
func (o *ociRegistry) cache(key string) auth.Cache {
	c, ok := o.tokens.Get(key)
	if !ok {
		c = auth.NewCache()
		o.tokens.Put(key, c, 1)
	}
	return c
}

func (s *session) credential(_ context.Context, host string) (auth.Credential, error) {
	if host != s.home.Host {
		return auth.EmptyCredential, nil
	}
	l := s.login
	return auth.Credential{Username: l.username, Password: l.password, AccessToken: l.token, RefreshToken: l.refresh}, nil
}

// get what is at a path of the repository, at most limit bytes: else errTooLarge.
func (s *session) get(ctx context.Context, path string, header http.Header, limit int64) (data []byte, mediaType string, err error) {
	ctx = auth.AppendRepositoryScope(ctx, s.repo, auth.ActionPull)
	at := s.home.JoinPath("v2", s.repo.Repository, path)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, "", err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	// A digest is of the bytes as they are.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := s.auth.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", &errcode.ErrorResponse{Method: req.Method, URL: at, StatusCode: resp.StatusCode}
	}
	if resp.ContentLength > limit {
		return nil, "", errTooLarge
	}
	data, err = io.ReadAll(&bounded{r: resp.Body, left: limit})
	mediaType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type")) // who cannot say it has a manifest
	return data, mediaType, err
}

// repository as oras has it, for what is in pages.
func (s *session) repository() *remote.Repository {
	return &remote.Repository{
		Client: s.auth, Reference: s.repo, PlainHTTP: s.home.Scheme == "http",
		TagListPageSize: 1000, TagListMaxPages: maxTagPages, ReferrerListMaxPages: maxNested,
	}
}

// versions that the tags are of, newest first; those that are versions only as the
// looser come last, so that they are found where Helm, which drops them, finds none.
func (s *session) versions(ctx context.Context) ([]version, error) {
	var strict, loose []version
	n := 0
	err := s.repository().Tags(ctx, "", func(tags []string) error {
		if n += len(tags); n > maxTags {
			return forbid("it has more than %d tags; give an exact version, or a digest", maxTags)
		}
		for _, tag := range tags {
			v := version{Name: s.ref.Name, Version: strings.ReplaceAll(tag, "_", "+")}
			if _, err := semver.StrictNewVersion(v.Version); err == nil {
				strict = append(strict, v)
			} else if _, err := semver.NewVersion(v.Version); err == nil {
				loose = append(loose, v)
			}
		}
		return nil
	})
	if err != nil {
		return nil, s.refused(ctx, err, "the list of tags")
	}
	return slices.Concat(newestFirst(strict), newestFirst(loose)), nil
}

// refused sorts out why a registry did not give what was asked for. What it says
// itself is not repeated: it has seen the credentials.
func (s *session) refused(ctx context.Context, err error, what string) error {
	at := &url.URL{Scheme: "oci", Host: s.repo.Registry, Path: "/" + s.repo.Repository}
	if refusal.Reason(err) != "" {
		return err
	}
	if answer, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		return status(answer.StatusCode, at, what)
	}
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		return status(http.StatusNotFound, at, what)
	case errors.Is(err, errdef.ErrTooManyPages):
		return refusal.Becausef(v1alpha1.ReasonRepositoryRefused, "%s: %s has more pages than are read; give an exact version, or a digest", at, what)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return unreachable(ctx, at, &unwelcome{"the registry asks for a user name and a password"})
	}
	_, broken := errors.AsType[net.Error](err)
	if _, no := errors.AsType[*forbidden](err); no || broken || ctx.Err() != nil {
		return s.login.discreet(unreachable(ctx, at, err))
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return unreachable(ctx, at, fmt.Errorf("%s: the answer has no end, or one that is too far", what))
	}
	return unreachable(ctx, at, fmt.Errorf("%s: the answer is not that of an OCI registry", what))
}

func digestOfBytes(data []byte) string { return archive.Digest(data) }
