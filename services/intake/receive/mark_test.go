package receive

import (
	"testing"
	"time"
)

// What was heard of is covered by a request, also where times and sequences of events that
// were said together have another order; a stream that has begun again begins anew.
func TestLater(t *testing.T) {
	begin := time.Now()
	at := func(sequence uint64, after time.Duration) Mark {
		return Mark{Sequence: sequence, Time: begin.Add(after)}
	}
	for name, tt := range map[string]struct{ a, b, want Mark }{
		"in order":                 {at(1, 0), at(2, time.Second), at(2, time.Second)},
		"stored the other way":     {at(2, 0), at(1, time.Second), at(2, time.Second)},
		"long after":               {at(1, 0), at(2, time.Minute), at(2, time.Minute)},
		"of a stream begun again":  {at(9000, 0), at(1, time.Minute), at(1, time.Minute)},
		"nothing was heard before": {Mark{}, at(7, 0), at(7, 0)},
	} {
		if got := tt.a.Later(tt.b); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
		if got := tt.b.Later(tt.a); got != tt.want {
			t.Errorf("%s, the other way: got %+v, want %+v", name, got, tt.want)
		}
	}
}
