package auditor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"orkestra.dev/services/auditor/record"
)

const (
	// requestTimeout bounds one request to an endpoint.
	requestTimeout = 30 * time.Second
	// longestRetryAfter bounds what an endpoint may ask for.
	longestRetryAfter = 10 * time.Minute
	// refusals is how often an endpoint may refuse a record before it is skipped.
	refusals = 5

	contentType = "application/cloudevents+json; charset=utf-8"
	headerN     = "Orkestra-Audit-N"
	headerHash  = "Orkestra-Audit-Hash"
	specVersion = "1.0"
	typePrefix  = "dev.orkestra.audit."
)

// sink hands the records of a trail to an HTTP endpoint as CloudEvents in
// structured mode, one after the other. It reads them from the trail's files, so
// that it holds up nobody, and keeps its own position beside them.
type sink struct {
	name      string
	endpoint  string
	tokenFile string
	source    string
	dir       string
	client    *http.Client
	backoff   func(n uint64) time.Duration
	progress  *progress
	log       *slog.Logger
	metrics   *metrics
	now       func() time.Time
}

// newClient follows no redirect: a record goes where the operator said.
func newClient() *http.Client {
	return &http.Client{
		Timeout:       requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// mark is a sink's position: the last record that it is done with.
type mark struct {
	N    uint64 `json:"n"`
	Hash string `json:"hash"`
}

func (s *sink) markFile() string    { return filepath.Join(s.dir, "sink-"+s.name+".json") }
func (s *sink) refusedFile() string { return filepath.Join(s.dir, "sink-"+s.name+".refused.jsonl") }

// run hands on until ctx is done. Trouble with the endpoint or the files is waited
// out; an unreadable position is an error.
func (s *sink) run(ctx context.Context) error {
	last, err := s.load()
	if err != nil {
		return err
	}
	c := cursor{dir: s.dir, next: last.N + 1}
	defer c.close()
	for attempt := uint64(1); s.progress.wait(ctx, c.next); {
		r, err := c.read()
		var gone *goneError
		switch {
		case errors.As(err, &gone):
			s.log.ErrorContext(ctx, "records are gone before the sink had them", "sink", s.name, "from", gone.wanted, "to", gone.first-1)
			s.metrics.handed.WithLabelValues(s.name, outcomeGone).Add(float64(gone.first - gone.wanted))
			c.next, last = gone.first, mark{}
			continue
		case err != nil:
			s.log.ErrorContext(ctx, "reading the trail again", "sink", s.name, "attempt", attempt, "error", err)
			if !pause(ctx, s.backoff(attempt)) {
				return nil
			}
			attempt++
			continue
		}
		attempt = 1
		if last.N > 0 && r.Prev != last.Hash {
			s.log.ErrorContext(ctx, "the trail is not the one that the sink had; it gets all of this one", "sink", s.name, "record", r.N)
			c.close()
			c.next, last = 1, mark{}
			continue
		}
		if !s.hand(ctx, r) {
			return nil
		}
		last = mark{N: r.N, Hash: r.Hash}
	}
	return nil
}

// hand repeats until the endpoint has the record, or has refused it for good, and
// that is noted; false where ctx was done before.
func (s *sink) hand(ctx context.Context, r record.Record) bool {
	refused := 0
	for attempt := uint64(1); ; attempt++ {
		v, err := s.post(ctx, r)
		if ctx.Err() != nil && v.what != outcomeDelivered {
			return false
		}
		if v.what == outcomeRefused {
			if refused++; refused < refusals {
				v.what = outcomeRetried
			} else if err = s.note(r, v.status); err == nil {
				s.log.ErrorContext(ctx, "the endpoint refuses a record; it is skipped", "sink", s.name, "record", r.N, "status", v.status)
			}
		}
		if v.what != outcomeRetried && (err == nil || v.what == outcomeDelivered) {
			if err = s.save(mark{N: r.N, Hash: r.Hash}); err == nil {
				s.metrics.handed.WithLabelValues(s.name, v.what).Inc()
				s.metrics.reached.WithLabelValues(s.name).Set(float64(r.N))
				return true
			}
		}
		s.metrics.handed.WithLabelValues(s.name, outcomeRetried).Inc()
		wait := max(s.backoff(attempt), v.after)
		s.log.WarnContext(ctx, "handing a record on again", "sink", s.name, "record", r.N, "attempt", attempt,
			"status", v.status, "again", wait, "error", err)
		if !pause(ctx, wait) {
			return false
		}
	}
}

// verdict on a request.
type verdict struct {
	what   string
	status int
	// after is how long the endpoint asks to wait.
	after time.Duration
}

// judge an answer. A token that is refused is put right by an operator, and then
// every record is welcome: that is waited for like an endpoint that is away.
func judge(status int, retryAfter string) verdict {
	v := verdict{what: outcomeRetried, status: status}
	switch {
	case status >= 200 && status < 300:
		v.what = outcomeDelivered
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests,
		status == http.StatusUnauthorized, status == http.StatusForbidden:
	case status >= 400 && status < 500:
		v.what = outcomeRefused
	}
	if seconds, err := strconv.ParseUint(retryAfter, 10, 31); err == nil {
		v.after = min(time.Duration(seconds)*time.Second, longestRetryAfter)
	}
	return v
}

func (s *sink) post(ctx context.Context, r record.Record) (verdict, error) {
	again := verdict{what: outcomeRetried}
	body, err := s.body(r)
	if err != nil {
		return again, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint, bytes.NewReader(body))
	if err != nil {
		return again, errors.New("making the request")
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set(headerN, strconv.FormatUint(r.N, 10))
	req.Header.Set(headerHash, r.Hash)
	if s.tokenFile != "" {
		token, err := os.ReadFile(s.tokenFile) // each time, so that it may be changed
		if err != nil {
			return again, fmt.Errorf("reading the token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	res, err := s.client.Do(req)
	if err != nil {
		return again, withoutURL(err)
	}
	// The answer's body is of no interest, and may say anything.
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	_ = res.Body.Close()
	return judge(res.StatusCode, res.Header.Get("Retry-After")), nil
}

// withoutURL leaves out the endpoint, whose query may hold a token.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// body is the event as it was stored; what is no event comes as one of the
// auditor's, whose data is the record.
func (s *sink) body(r record.Record) ([]byte, error) {
	if r.Event != nil {
		return r.Event, nil
	}
	kind := string(r.Kind)
	if r.Kind == record.KindEvent {
		kind = "message"
	}
	body, err := json.Marshal(map[string]any{
		"specversion": specVersion, "id": r.Hash, "source": s.source, "type": typePrefix + kind + ".v1",
		"time": r.Time, "datacontenttype": "application/json", "data": r,
	})
	if err != nil {
		return nil, fmt.Errorf("encoding record %d: %w", r.N, err)
	}
	return body, nil
}

// note keeps what was refused, so that it can be handed on by hand. A death before
// the position is saved notes it twice.
func (s *sink) note(r record.Record, status int) error {
	line, err := json.Marshal(map[string]any{"n": r.N, "hash": r.Hash, "status": status, "time": s.now().UTC()})
	if err != nil {
		return fmt.Errorf("noting a refusal: %w", err)
	}
	f, err := os.OpenFile(s.refusedFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("noting a refusal: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("noting a refusal: %w", err)
	}
	return nil
}

// save replaces the position as a whole.
func (s *sink) save(m mark) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("saving the position: %w", err)
	}
	next := s.markFile() + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("saving the position: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(next, s.markFile())
	}
	if err != nil {
		return fmt.Errorf("saving the position: %w", err)
	}
	return nil
}

// load gives the position; a sink that is new begins with the first record, and one
// that is ahead of the trail as well, because that is another trail.
func (s *sink) load() (mark, error) {
	var m mark
	data, err := os.ReadFile(s.markFile())
	if errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		return m, fmt.Errorf("reading the position of sink %s: %w", s.name, err)
	}
	if head, _ := s.progress.get(); m.N > head.N {
		s.log.Error("the trail ends before the sink's position; the sink gets all of it", "sink", s.name, "record", m.N, "end", head.N)
		return mark{}, nil
	}
	s.metrics.reached.WithLabelValues(s.name).Set(float64(m.N))
	return m, nil
}
