package stager

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/stage"
)

// depot is a ChartMuseum that counts what it is asked for.
type depot struct {
	mu    sync.Mutex
	data  map[string]string // by tenant/name-version
	asked []string
	err   error
	until chan struct{} // answers wait for it; nil: for nothing
}

func (d *depot) Archive(_ context.Context, tenant string, c museumChart) ([]byte, error) {
	d.mu.Lock()
	key := tenant + "/" + c.Name + "-" + c.Version
	d.asked = append(d.asked, key)
	data, ok := d.data[key]
	err, until := d.err, d.until
	d.mu.Unlock()
	if until != nil {
		<-until
	}
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, notThere{errors.New("404")}
	default:
		return []byte(data), nil
	}
}

func newArtifactServer(t *testing.T, d *depot) (*artifacts, func(path string) (int, string, http.Header)) {
	t.Helper()
	a, err := newArtifacts(d, "http://stager/charts/", 1<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(a.server().Handler)
	t.Cleanup(s.Close)
	// Redirects are answers too: nobody is to be led elsewhere.
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return a, func(path string) (int, string, http.Header) {
		t.Helper()
		resp, err := c.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body), resp.Header
	}
}

func TestArtifacts(t *testing.T) {
	sum := func(data string) string { return strings.TrimPrefix(archive.Digest([]byte(data)), "sha256:") }
	d := &depot{data: map[string]string{"shop/web-1.0.0+orkestra.1a": "bytes", "shop/other-1.0.0": "others", "../secrets-1": "x"}}
	a, get := newArtifactServer(t, d)
	chart := &sourcev1.HelmChart{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationDigest: "sha256:" + sum("bytes")}},
		Spec:       sourcev1.HelmChartSpec{Chart: "web", Version: "1.0.0+orkestra.1a", SourceRef: sourcev1.LocalHelmChartSourceReference{Name: "shop"}},
	}
	path, ok := strings.CutPrefix(a.of(chart).URL, "http://stager")
	if want := "/charts/shop/web/1.0.0+orkestra.1a/" + sum("bytes") + ".tgz"; !ok || path != want {
		t.Fatalf("the URL is %s, want one with %s", a.of(chart).URL, want)
	}
	for range 2 {
		if code, body, header := get(path); code != http.StatusOK || body != "bytes" || header.Get("Etag") != `"sha256:`+sum("bytes")+`"` {
			t.Errorf("what a HelmChart offers is there: %d %q %v", code, body, header)
		}
	}
	if len(d.asked) != 1 {
		t.Errorf("ChartMuseum is asked once: %v", d.asked)
	}
	pushed := stage.Piece{Digest: archive.Digest([]byte("new")), Archive: []byte("new")}
	a.keep(pushed)
	if code, body, _ := get("/charts/shop/web/2.0.0/" + sum("new") + ".tgz"); code != http.StatusOK || body != "new" || len(d.asked) != 1 {
		t.Errorf("nor for what was pushed just now: %d %q, %v", code, body, d.asked)
	}
	d.asked = nil
	for name, path := range map[string]string{
		"Other":    "/charts/shop/other/1.0.0/" + sum("guessed") + ".tgz", // who does not know the digest gets nothing
		"Missing":  "/charts/shop/web/3.0.0/" + sum("missing") + ".tgz",
		"NoDigest": "/charts/shop/web/1.0.0/latest.tgz",
		"Short":    "/charts/shop/web/1.0.0/" + sum("bytes")[:10] + ".tgz",
		"Upper":    "/charts/shop/web/1.0.0/" + strings.ToUpper(sum("x")) + ".tgz",
		"NoTgz":    "/charts/shop/web/1.0.0/" + sum("x"),
		"Up":       "/charts/%2e%2e/secrets/1/" + sum("x") + ".tgz",
		"UpChart":  "/charts/shop/%2e%2e%2fsecrets/1/" + sum("x") + ".tgz",
		"Slash":    "/charts/shop%2fapi/web/1/" + sum("x") + ".tgz",
		"Query":    "/charts/shop/web%3fx/1/" + sum("x") + ".tgz",
		"Index":    "/charts/shop/index.yaml",
		"Root":     "/",
		"Long":     "/charts/shop/" + strings.Repeat("w", 300) + "/1/" + sum("x") + ".tgz",
	} {
		code, body, _ := get(path)
		if code != http.StatusNotFound || strings.Contains(body, "others") {
			t.Errorf("%s: %d %q", name, code, body)
		}
	}
	if len(d.asked) != 2 {
		t.Errorf("ChartMuseum is asked only for what it may have: %v", d.asked)
	}
}

func TestArtifactsWaitForChartMuseum(t *testing.T) {
	d := &depot{err: errors.New("away: user orkestra")}
	_, get := newArtifactServer(t, d)
	path := "/charts/shop/web/1.0.0/" + strings.TrimPrefix(archive.Digest([]byte("bytes")), "sha256:") + ".tgz"
	if code, body, header := get(path); code != http.StatusServiceUnavailable || header.Get("Retry-After") != "" || strings.Contains(body, "orkestra") {
		t.Errorf("who asks comes again, and is told no more: %d %q %v", code, body, header)
	}
	d.err, d.data = nil, map[string]string{"shop/web-1.0.0": "bytes"}
	d.until = make(chan struct{})
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if code, body, _ := get(path); code != http.StatusOK || body != "bytes" {
				t.Errorf("and gets it then: %d %q", code, body)
			}
		})
	}
	close(d.until)
	all.Wait()
}

// A request that cannot be answered must not take along one that can.
func TestArtifactsAreReadApart(t *testing.T) {
	d := &depot{data: map[string]string{"shop/web-1.0.0": "bytes"}, until: make(chan struct{})}
	_, get := newArtifactServer(t, d)
	answer := sync.OnceFunc(func() { close(d.until) })
	t.Cleanup(answer)
	file := "/" + strings.TrimPrefix(archive.Digest([]byte("bytes")), "sha256:") + ".tgz"
	asked := func(n int) {
		t.Helper()
		there, err := poll(t.Context(), 10*time.Second, func() (bool, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			return len(d.asked) == n, nil
		})
		if err != nil || !there {
			t.Fatalf("ChartMuseum was not asked %d times: %v", n, err)
		}
	}
	var both sync.WaitGroup
	both.Go(func() {
		if code, _, _ := get("/charts/nobody/web/1.0.0" + file); code != http.StatusNotFound {
			t.Errorf("nobody has it: %d", code)
		}
	})
	asked(1)
	both.Go(func() {
		if code, body, _ := get("/charts/shop/web/1.0.0" + file); code != http.StatusOK || body != "bytes" {
			t.Errorf("it is in the shop: %d %q", code, body)
		}
	})
	asked(2)
	answer()
	both.Wait()
}

// Replicas on one machine share an address.
func TestArtifactsShareAnAddress(t *testing.T) {
	d := &depot{data: map[string]string{"shop/web-1.0.0": "bytes"}}
	first, _ := newArtifactServer(t, d)
	second, _ := newArtifactServer(t, d)
	// The first finds a free port and is gone again: another process may only share what is shared by all.
	probe := httptest.NewServer(http.NotFoundHandler())
	addr := probe.Listener.Addr().String()
	probe.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for _, a := range []*artifacts{first, second} {
		go func() { ended <- a.listen(addr)(ctx) }()
	}
	path := "http://" + addr + "/charts/shop/web/1.0.0/" + strings.TrimPrefix(archive.Digest([]byte("bytes")), "sha256:") + ".tgz"
	served, err := poll(t.Context(), 10*time.Second, func() (bool, error) {
		select {
		case err := <-ended:
			return false, errors.Join(err, errors.New("it ended"))
		default:
		}
		resp, err := http.Get(path)
		return err == nil && resp.StatusCode == http.StatusOK && resp.Body.Close() == nil, nil
	})
	cancel()
	if err != nil || !served {
		t.Errorf("both listen, and one answers: %t, %v", served, err)
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("to be told to stop is no error: %v", err)
		}
	}
}
