package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

const (
	// token of all Receivers here.
	token = "the token of the benchmark's Receivers"
	// registry that all charts are in.
	registry = "ghcr.io/orkestra-bench"
)

// delivery is a request that is to be sent.
type delivery struct {
	path   string
	header http.Header
	body   []byte
	// row of the report that it counts in.
	row string
	// leads: it is news to a group of its own.
	leads bool
}

// scenario is what is sent at a constant rate, in deliveries a second.
type scenario struct {
	name       string
	rate       int
	deliveries []delivery
}

// leading are how many of those that were taken in are news to a group of their own.
func (s scenario) leading(answers []answer) (n int) {
	for i, a := range answers {
		if s.deliveries[i].leads && a.status == http.StatusAccepted {
			n++
		}
	}
	return n
}

// push is a chart version that somebody is told of.
type push struct{ id, chart, version string }

// writer makes deliveries as two kinds of senders do.
type writer struct {
	// payload is GitHub's example of a package.
	payload []byte
	// paths of Receivers by their names.
	paths map[string]string
}

func newWriter(root string, paths map[string]string) (*writer, error) {
	payload, err := os.ReadFile(filepath.Join(root, "services", "intake", "receive", "testdata", "github-package.json"))
	if err != nil {
		return nil, fmt.Errorf("reading GitHub's payload: %w", err)
	}
	return &writer{payload: payload, paths: paths}, nil
}

// github is a push as GitHub tells of it.
func (w *writer) github(p push) delivery {
	body := bytes.ReplaceAll(w.payload, []byte("ghcr.io/Codertocat/hello-world:"), []byte(registry+"/"+p.chart+":"+p.version))
	body = bytes.ReplaceAll(body, []byte(`"tag": {"name": ""`), []byte(`"tag": {"name": "`+p.version+`"`))
	return delivery{path: w.paths[receiverGitHub], body: body, header: http.Header{
		"Content-Type": {"application/json"}, "X-Github-Event": {"package"}, "X-Github-Delivery": {p.id},
		"X-Hub-Signature-256": {signature(body)},
	}}
}

// ci is a push as a CI job tells of it to a Receiver.
func (w *writer) ci(receiver string, p push) (delivery, error) {
	body, err := json.Marshal(map[string]any{
		"id": p.id, "charts": []map[string]string{{"registry": registry, "name": p.chart, "version": p.version}},
	})
	return delivery{path: w.paths[receiver], body: body, header: http.Header{
		"Content-Type": {"application/json"}, "X-Signature-256": {signature(body)},
	}}, err
}

func signature(body []byte) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// steady is half of GitHub and half of CI, each news to a group of its own.
func (w *writer) steady(contender string, rate, count int) (scenario, error) {
	s := scenario{name: "steady", rate: rate}
	for i := range count {
		d, err := w.either(i, push{id: fmt.Sprintf("%s-steady-%d", contender, i), chart: steadyName(contender, i), version: "1.1.0"})
		if err != nil {
			return s, err
		}
		d.row, d.leads = "steady", true
		s.deliveries = append(s.deliveries, d)
	}
	return s, nil
}

// mix is half of GitHub and half of CI; every so often one is news to a group, each time
// to another, and the others are about charts that nobody uses.
func (w *writer) mix(contender string, rate, count, groups int) (scenario, error) {
	s := scenario{name: "mix", rate: rate}
	every := max(count/max(groups, 1), 1)
	for i := range count {
		p := push{id: fmt.Sprintf("%s-mix-%d", contender, i), chart: fmt.Sprintf("nobody-uses-%d", i%100), version: fmt.Sprintf("1.1.%d", i)}
		leads := i%every == 0 && i/every < groups
		if leads {
			p.chart = groupName(contender, i/every)
		}
		d, err := w.either(i, p)
		if err != nil {
			return s, err
		}
		d.row, d.leads = "mix", leads
		s.deliveries = append(s.deliveries, d)
	}
	return s, nil
}

func (w *writer) either(i int, p push) (delivery, error) {
	if i%2 == 0 {
		return w.github(p), nil
	}
	return w.ci(receiverCI, p)
}

// burst is all about one group: each delivery is news to it.
func (w *writer) burst(contender string, rate, count int) (scenario, error) {
	s := scenario{name: "one group", rate: rate}
	for i := range count {
		d, err := w.either(i, push{id: fmt.Sprintf("%s-burst-%d", contender, i), chart: groupName(contender, burstGroup), version: fmt.Sprintf("1.1.%d", i)})
		if err != nil {
			return s, err
		}
		d.row = "one group"
		s.deliveries = append(s.deliveries, d)
	}
	return s, nil
}

// flood is one Receiver that is sent far more than its limit lets in, and, one delivery in
// twenty, another that is not.
func (w *writer) flood(contender string, rate, count int) (scenario, error) {
	s := scenario{name: "flood", rate: rate}
	for i := range count {
		receiver, row := receiverLimited, "flood: past its limit"
		if i%20 == 0 {
			receiver, row = receiverCI, "flood: the other"
		}
		d, err := w.ci(receiver, push{id: fmt.Sprintf("%s-flood-%d", contender, i), chart: "nobody-uses", version: fmt.Sprintf("1.1.%d", i)})
		if err != nil {
			return s, err
		}
		d.row = row
		s.deliveries = append(s.deliveries, d)
	}
	return s, nil
}
