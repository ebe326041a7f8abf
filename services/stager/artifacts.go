package stager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"orkestra.dev/services/stager/archive"
	"orkestra.dev/services/stager/internal/flight"
	"orkestra.dev/services/stager/internal/lru"
	"orkestra.dev/services/stager/stage"
)

const (
	// artifactsInHand is how many archives are read from ChartMuseum at a time: each may be as large as an archive may be.
	artifactsInHand = 8
	// artifactTime is how long an answer may take, from its request on.
	artifactTime = time.Minute
	// artifactIdle is how long a connection may say nothing.
	artifactIdle = 2 * time.Minute
	// maxArtifactHeader of a request, in bytes.
	maxArtifactHeader = 16 << 10
)

// What became of a request for an archive, the label outcome of orkestra_stager_artifacts_total.
const (
	artifactKept        = "kept"        // served out of memory
	artifactFetched     = "fetched"     // served from ChartMuseum
	artifactUnknown     = "unknown"     // there is none of that digest
	artifactUnavailable = "unavailable" // ChartMuseum could not be asked
)

// archives is where staged archives are read from.
type archives interface {
	// Archive is what is stored under a name and version; the error is a notThere where there is none.
	Archive(ctx context.Context, tenant string, c museumChart) ([]byte, error)
}

// artifacts serves staged archives to helm-controller, which can show nobody a password: whoever asks for one has to
// name its digest, and gets what has that digest or nothing.
type artifacts struct {
	museum archives
	// base is what URLs begin with.
	base *url.URL
	// kept are archives by their digest.
	kept    *lru.Cache[[]byte]
	reading flight.Group[[]byte]
	inHand  *semaphore.Weighted
	total   *prometheus.CounterVec
	log     *slog.Logger
}

func newArtifacts(museum archives, base string, keep int64, log *slog.Logger) (*artifacts, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, errors.New("--artifact-url does not parse")
	}
	return &artifacts{
		museum: museum, base: u, kept: lru.New[[]byte](keep), inHand: semaphore.NewWeighted(artifactsInHand), log: log,
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orkestra_stager_artifacts_total", Help: "Requests for staged archives, by what became of them.",
		}, []string{"outcome"}),
	}, nil
}

// of is the artifact of a HelmChart.
func (a *artifacts) of(h *sourcev1.HelmChart) stage.Artifact {
	digest := stage.DigestOf(h)
	path := []string{h.Spec.SourceRef.Name, h.Spec.Chart, h.Spec.Version, strings.TrimPrefix(digest, digestPrefix) + archiveSuffix}
	return stage.Artifact{Path: strings.Join(path, "/"), URL: a.base.JoinPath(path...).String(), Digest: digest}
}

const (
	digestPrefix  = "sha256:"
	archiveSuffix = ".tgz"
)

// keep an archive that is about to be asked for.
func (a *artifacts) keep(p stage.Piece) { a.kept.Put(p.Digest, p.Archive, int64(len(p.Archive))) }

// listen serves until ctx is done. Several processes on one machine may share an address, as replicas behind a Service
// share one: the kernel gives each connection to one of those that listen.
func (a *artifacts) listen(addr string) manager.RunnableFunc {
	return func(ctx context.Context) error {
		config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) (err error) {
			controlled := conn.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
			return errors.Join(controlled, err)
		}}
		l, err := config.Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("listening for who fetches staged charts (--artifact-addr): %w", err)
		}
		return (&manager.Server{Name: "artifacts", Listener: l, Server: a.server()}).Start(ctx)
	}
}

func (a *artifacts) server() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+strings.TrimSuffix(a.base.Path, "/")+"/{tenant}/{chart}/{version}/{file}", a.serve)
	return &http.Server{
		Handler: mux, MaxHeaderBytes: maxArtifactHeader, ReadHeaderTimeout: artifactIdle, IdleTimeout: artifactIdle, WriteTimeout: artifactTime,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
}

func (a *artifacts) serve(w http.ResponseWriter, r *http.Request) {
	want, ok := requested(r)
	if !ok {
		a.total.WithLabelValues(artifactUnknown).Inc()
		http.Error(w, "there is no such chart", http.StatusNotFound)
		return
	}
	data, outcome, err := a.archive(r.Context(), want)
	a.total.WithLabelValues(outcome).Inc()
	switch outcome {
	case artifactUnknown:
		a.log.WarnContext(r.Context(), "there is no such chart", "group", want.tenant, "chart", want.chart.Name, "version", want.chart.Version, "digest", want.digest)
		http.Error(w, "there is no such chart", http.StatusNotFound)
	case artifactUnavailable:
		a.log.WarnContext(r.Context(), "a staged chart cannot be read", "group", want.tenant, "chart", want.chart.Name, "version", want.chart.Version, "error", err)
		// helm-controller comes again after 5 s, then later and later, nine times; told when to come, it would give up sooner.
		http.Error(w, "the staging repository does not answer", http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "application/gzip")
		w.Header().Set("Etag", `"`+want.digest+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

// wantedArchive is what a request names.
type wantedArchive struct {
	tenant string
	chart  museumChart
	digest string
}

func (w wantedArchive) String() string {
	return strings.Join([]string{w.tenant, w.chart.Name, w.chart.Version, w.digest}, "/")
}

// named is what a chart's name and version may be made of, so that they are one segment of a path. Helm's names are
// letters, digits, dots, dashes and underscores; versions may have a plus.
var named = regexp.MustCompile(`^[A-Za-z0-9._+-]{1,250}$`)

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// requested is what a request asks for; ok is false where nothing can be of that name.
func requested(r *http.Request) (want wantedArchive, ok bool) {
	sum, isArchive := strings.CutSuffix(r.PathValue("file"), archiveSuffix)
	want = wantedArchive{
		tenant: r.PathValue("tenant"),
		chart:  museumChart{Name: r.PathValue("chart"), Version: r.PathValue("version")},
		digest: digestPrefix + sum,
	}
	ok = isArchive && hexDigest.MatchString(sum) && len(validation.IsDNS1123Subdomain(want.tenant)) == 0 &&
		named.MatchString(want.chart.Name) && named.MatchString(want.chart.Version)
	return want, ok
}

// archive is what was asked for, and where it was found.
func (a *artifacts) archive(ctx context.Context, want wantedArchive) (data []byte, outcome string, err error) {
	if data, ok := a.kept.Get(want.digest); ok {
		return data, artifactKept, nil
	}
	// Who names a digest in the wrong place shares no answer with who names it in the right one.
	data, err = a.reading.Do(ctx, want.String(), museumTimeout, func(ctx context.Context) ([]byte, error) {
		if err := a.inHand.Acquire(ctx, 1); err != nil {
			return nil, fmt.Errorf("waiting to read a chart: %w", err)
		}
		defer a.inHand.Release(1)
		data, err := a.museum.Archive(ctx, want.tenant, want.chart)
		if err != nil {
			return nil, err
		}
		if archive.Digest(data) != want.digest {
			return nil, notThere{errors.New("what is there has another digest")}
		}
		a.kept.Put(want.digest, data, int64(len(data)))
		return data, nil
	})
	if _, missing := errors.AsType[notThere](err); missing {
		return nil, artifactUnknown, err
	}
	if err != nil {
		return nil, artifactUnavailable, err
	}
	return data, artifactFetched, nil
}
