package auditor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
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

	contentType = "application/cloudevents+json; charset=utf-8"
	headerN     = "Orkestra-Audit-N"
	headerHash  = "Orkestra-Audit-Hash"
	specVersion = "1.0"
	typePrefix  = "dev.orkestra.audit."
)

// endpoint is a target over HTTP: each record is a CloudEvent in structured mode.
type endpoint struct {
	url       string
	tokenFile string
	source    string
	client    *http.Client
}

// newClient follows no redirect: a record goes where the operator said.
func newClient() *http.Client {
	return &http.Client{
		Timeout:       requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (e *endpoint) batch() (int, time.Duration) { return 1, 0 }

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

func (e *endpoint) give(ctx context.Context, records []line) (mark, verdict, error) {
	v, err := e.post(ctx, records[0].Record)
	return markOf(records[0].Record), v, err
}

func (e *endpoint) post(ctx context.Context, r record.Record) (verdict, error) {
	again := verdict{what: outcomeRetried}
	body, err := e.body(r)
	if err != nil {
		return again, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return again, errors.New("making the request")
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set(headerN, strconv.FormatUint(r.N, 10))
	req.Header.Set(headerHash, r.Hash)
	if e.tokenFile != "" {
		token, err := os.ReadFile(e.tokenFile) // each time, so that it may be changed
		if err != nil {
			return again, fmt.Errorf("reading the token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	res, err := e.client.Do(req)
	if err != nil {
		return again, withoutURL(err)
	}
	defer res.Body.Close()
	// The answer's body is of no interest, and may say anything: it is read so that the
	// connection can be used again, and what becomes of that changes nothing.
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
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
func (e *endpoint) body(r record.Record) ([]byte, error) {
	if r.Event != nil {
		return r.Event, nil
	}
	kind := string(r.Kind)
	if r.Kind == record.KindEvent {
		kind = "message"
	}
	body, err := json.Marshal(map[string]any{
		"specversion": specVersion, "id": r.Hash, "source": e.source, "type": typePrefix + kind + ".v1",
		"time": r.Time, "datacontenttype": "application/json", "data": r,
	})
	if err != nil {
		return nil, fmt.Errorf("encoding record %d: %w", r.N, err)
	}
	return body, nil
}
