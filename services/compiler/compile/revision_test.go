package compile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"orkestra.dev/services/compiler/compile"
)

func TestNewestFirst(t *testing.T) {
	second := time.Date(2026, 12, 1, 9, 57, 43, 0, time.UTC)
	revision := func(name string, generation int64, made time.Time, requested, version string) appsv1.ControllerRevision {
		return appsv1.ControllerRevision{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(made), ResourceVersion: version},
			Revision:   generation,
			Data:       runtime.RawExtension{Raw: fmt.Appendf(nil, `{"rollout":{"group":"g","requestedAt":%q}}`, requested)},
		}
	}
	all := []appsv1.ControllerRevision{
		revision("a-older-generation", 1, second.Add(time.Minute), "", "90"),
		revision("b-a-second-before", 2, second.Add(-time.Second), "2026-12-01T09:57:42.5Z", "80"),
		revision("c-spec", 2, second, "", "50"),
		revision("e-asked-later", 2, second, "2026-12-01T09:57:43.872091844Z", "40"),
		revision("d-asked", 2, second, "2026-12-01T09:57:43.87Z", "60"),
		revision("g-a-word-written-last", 2, second, "please", "100"),
		revision("f-a-word", 2, second, "again", "9"),
	}
	want := "e-asked-later d-asked g-a-word-written-last c-spec f-a-word b-a-second-before a-older-generation"
	for range 5 {
		slices.SortFunc(all, func(a, b appsv1.ControllerRevision) int { return compile.NewestFirst(&a, &b) })
		var got []string
		for _, r := range all {
			got = append(got, r.Name)
		}
		if strings.Join(got, " ") != want {
			t.Fatalf("got  %s\nwant %s", strings.Join(got, " "), want)
		}
		slices.Reverse(all)
	}
}
