package main

import (
	"context"
	"maps"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// memory has series by their labels, each from its oldest value on. Prometheus's own
// database would keep them on a disk.
type memory map[string]*promql.Series

func (m memory) add(l labels.Labels, at int64, value float64) {
	key := l.String()
	if m[key] == nil {
		m[key] = &promql.Series{Metric: l}
	}
	m[key].Floats = append(m[key].Floats, promql.FPoint{T: at, F: value})
}

// Querier for all times: what is not asked for is passed over.
func (m memory) Querier(int64, int64) (storage.Querier, error) {
	return querier{storage.NoopQuerier(), m}, nil
}

type querier struct {
	storage.Querier
	memory memory
}

// Select finds the series that all matchers match, in the order of their labels.
func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var found []promql.Series
	for _, key := range slices.Sorted(maps.Keys(q.memory)) {
		s := q.memory[key]
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.Metric.Get(m.Name)) }) {
			found = append(found, *s)
		}
	}
	return &set{left: found}
}

// set goes through series.
type set struct {
	at   promql.Series
	left []promql.Series
}

func (s *set) Next() bool {
	if len(s.left) == 0 {
		return false
	}
	s.at, s.left = s.left[0], s.left[1:]
	return true
}

func (s *set) At() storage.Series                { return promql.NewStorageSeries(s.at) }
func (s *set) Err() error                        { return nil }
func (s *set) Warnings() annotations.Annotations { return nil }
