package intake

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// A Receiver that is busy has some events at once and then one a second, whatever others have.
func TestABusyReceiverIsNotToldOfEachTime(t *testing.T) {
	var all telling
	now := time.Now()
	count := func(receiver types.UID, tries int) (n int) {
		for range tries {
			if all.may(receiver, now) {
				n++
			}
		}
		return n
	}
	if n := count("busy", 1000); n != toldAtOnce {
		t.Errorf("%d events at once, want %d", n, toldAtOnce)
	}
	if n := count("other", 3); n != 3 {
		t.Errorf("another Receiver has %d events of 3", n)
	}
	now = now.Add(10 * time.Second)
	if n := count("busy", 1000); n != 10*toldASecond {
		t.Errorf("%d events ten seconds later, want %d", n, 10*toldASecond)
	}
	for i := range 2 * maxTelling {
		all.may(types.UID(time.Duration(i).String()), now)
	}
	if n := len(all.limits); n > maxTelling {
		t.Errorf("%d Receivers are remembered", n)
	}
}
