package v1alpha1_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"orkestra.dev/api/v1alpha1"
)

func TestNames(t *testing.T) {
	long := strings.Repeat("long-", 12) + "name" // 64 characters
	cases := map[string]struct {
		reason    string
		got, want string
	}{
		"DNS":            {"what a label may not have becomes a dash", v1alpha1.DNSName("My_App.v2"), "my-app-v2"},
		"DNSEnds":        {"a label does not begin or end with a dash", v1alpha1.DNSName("_a_"), "a"},
		"DNSNothing":     {"a name of nothing but dashes is none", v1alpha1.DNSName("__"), ""},
		"DNSUnicode":     {"each character becomes one dash", v1alpha1.DNSName("aéb"), "a-b"},
		"Short":          {"a name that fits stays", v1alpha1.Shorten("name", 4), "name"},
		"Long":           {"a name that does not is cut with a hash of the whole", v1alpha1.Shorten(long, 20), "long-long-l-83232e2b"},
		"ShortenNoDash":  {"the cut leaves no two dashes", v1alpha1.Shorten(long, 19), "long-long-83232e2b"},
		"Task":           {"a task is named as in the original", v1alpha1.TaskName("bookinfo", "details"), "bookinfo-details"},
		"TaskOwn":        {"and so is that of the application's own chart", v1alpha1.TaskName("bookinfo", ""), "bookinfo-bookinfo"},
		"TaskSame":       {"a subchart named like its application is another task", v1alpha1.TaskName("redis", "redis"), "redis-redis-subchart"},
		"Release":        {"a release is named for its application", v1alpha1.ReleaseName("My_App", ""), "my-app"},
		"ReleasePiece":   {"a piece's for both", v1alpha1.ReleaseName("bookinfo", "details"), "bookinfo-details"},
		"Storage":        {"a storage namespace can be read", v1alpha1.StorageNamespace("bookinfo", "details"), "orkestra-bookinfo-details"},
		"StorageWithDot": {"where it could be read in two ways, a hash tells them apart", v1alpha1.StorageNamespace("a.b", "c"), "orkestra-a-b-c-fc7cd9c4"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if tc.got != tc.want {
				t.Errorf("%s: %q, want %q", tc.reason, tc.got, tc.want)
			}
		})
	}
}

// Helm keeps a release under its name, so two pieces of two groups that shared a
// namespace could be one release to it.
func TestStorageNamespacesAreDistinct(t *testing.T) {
	names := []string{"a", "b", "a-b", "b-c", "a-b-c", "c", strings.Repeat("x", 60), strings.Repeat("x", 61)}
	groups := append([]string{"a.b", "b.c", "a.b-c"}, names...)
	taken := map[string]string{}
	for _, g := range groups {
		for _, s := range names {
			namespace := v1alpha1.StorageNamespace(g, s)
			if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
				t.Errorf("%q: %v", namespace, problems)
			}
			if first, ok := taken[namespace]; ok {
				t.Errorf("%q is the storage namespace of %s and of %s/%s", namespace, first, g, s)
			}
			taken[namespace] = g + "/" + s
		}
	}
}

func TestReleaseNamesFit(t *testing.T) {
	long := strings.Repeat("x", 63)
	if a, b := v1alpha1.ReleaseName(long, long), v1alpha1.ReleaseName(long, long+"y"); a == b || len(a) > 53 || len(b) > 53 {
		t.Errorf("two long names are %q and %q: they stay two, of at most 53 characters", a, b)
	}
}
