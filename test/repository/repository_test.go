package repository_test

import (
	"testing"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/registry"
	"orkestra.dev/test/repository"
)

func fetch(t *testing.T, s *repository.Server, version string, data map[string][]byte) error {
	t.Helper()
	ref := registry.Ref{URL: s.URL, Name: "web", Version: version}
	if data != nil {
		var err error
		if ref.Credentials, err = registry.CredentialsOf(data); err != nil {
			t.Fatal(err)
		}
	}
	f := registry.FetchAll(t.Context(), registry.New(registry.Options{AllowPrivate: true}), []registry.Ref{ref}, 1)[0]
	if f.Err == nil && (f.Version != version || len(f.Archive) == 0) {
		t.Errorf("got version %s, %d bytes", f.Version, len(f.Archive))
	}
	return f.Err
}

func TestKinds(t *testing.T) {
	for _, kind := range repository.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			s, err := repository.Start(kind, repository.Chart{Name: "web", Version: "1.0.0"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			if err := fetch(t, s, "1.0.0", s.SecretData()); err != nil {
				t.Errorf("with the Secret's data: %v", err)
			}
			if s.SecretData() != nil {
				if err := fetch(t, s, "1.0.0", nil); err == nil {
					t.Error("without credentials it is given too")
				}
			}
			if s.Requests() == 0 {
				t.Error("no request was counted")
			}
			s.Close()
			if err := fetch(t, s, "1.0.0", s.SecretData()); refusal.Reason(err) != v1alpha1.ReasonRepositoryUnreachable {
				t.Errorf("while it is away: %v", err)
			}
			if err := s.Restart(); err != nil {
				t.Fatal(err)
			}
			if err := s.Add("web", "1.1.0+build", nil); err != nil {
				t.Fatal(err)
			}
			for _, v := range []string{"1.0.0", "1.1.0+build"} {
				if err := fetch(t, s, v, s.SecretData()); err != nil {
					t.Errorf("%s, when it is back: %v", v, err)
				}
			}
		})
	}
}
