package stack

import (
	"testing"
)

func TestTend(t *testing.T) {
	s := scene(t)
	tend := func(want bool, why string) {
		t.Helper()
		if again, err := s.tend(t.Context()); err != nil || again != want {
			t.Fatalf("%s: started again: %v, %v", why, again, err)
		}
	}
	tend(false, "a stack that was never up")

	want := dummy(t, "chartmuseum", "crashes-once")
	if err := s.ensure(t.Context(), want); err == nil {
		t.Fatal("it did not crash")
	}
	tend(true, "a crash by its known fault")
	crashed := healthy(t, s, "chartmuseum")
	tend(false, "one that runs")
	if now := healthy(t, s, "chartmuseum"); now != crashed {
		t.Errorf("%d became %d", crashed, now)
	}

	p, err := s.Process("chartmuseum")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	tend(false, "one that a test has killed, whose log of an earlier run has the fault")
}
