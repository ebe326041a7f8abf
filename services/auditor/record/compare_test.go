package record_test

import (
	"strings"
	"testing"

	"orkestra.dev/services/auditor/record"
)

func TestComparison(t *testing.T) {
	all := lines(t, 4) // 1 to 4, a gap of 5 and 6, and 7
	compare := func(change func(*record.Message), sequences ...uint64) (problems string, c record.Comparison) {
		c = record.Comparison{Stream: record.Stream{Created: made, First: 1, Last: 9}}
		for _, line := range all {
			c.Record(mustParse(t, line))
		}
		for _, n := range sequences {
			m := message(n)
			if change != nil {
				change(&m)
			}
			problems += c.Message(m)
		}
		return problems, c
	}
	if got, c := compare(nil, 3, 4, 7, 8, 9); got != "" || c.Same != 3 || c.Later != 2 {
		t.Errorf("what is as it was recorded, and what came later: %q, %d and %d", got, c.Same, c.Later)
	}
	if got, _ := compare(nil, 5); !strings.Contains(got, "no record has it") {
		t.Errorf("a message that was said to be lost: %q", got)
	}
	for name, change := range map[string]func(*record.Message){
		"Event":   func(m *record.Message) { m.Event = []byte(`{"id":"x"}`) },
		"Subject": func(m *record.Message) { m.Subject = "orkestra.v1.group.mall" },
		"Raw":     func(m *record.Message) { m.Event, m.Raw = nil, []byte("?") },
	} {
		if got, _ := compare(change, 2); !strings.Contains(got, "not what was recorded") {
			t.Errorf("%s: %q", name, got)
		}
	}
	// Another life of the stream has other messages under the same numbers.
	c := record.Comparison{Stream: record.Stream{Created: now}}
	for _, line := range all {
		c.Record(mustParse(t, line))
	}
	if got := c.Message(message(1)); got != "" || c.Later != 1 {
		t.Errorf("another stream: %q", got)
	}
}
