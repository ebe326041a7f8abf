package stored_test

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/pkg/service/stored"
)

// What has become of an object is asked of the watch cache, which is to have what was seen; and where that
// is not to be had, what is stored.
func TestSince(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		key string
		// cache and etcd are what a read of either fails with.
		cache, etcd error
		want        types.UID
		err         error
		asked       []string // the resourceVersions
	}{
		"There":       {key: "there", want: "uid", asked: []string{"7"}},
		"Gone":        {key: "gone", asked: []string{"7"}},
		"CacheBehind": {key: "there", cache: broken, want: "uid", asked: []string{"7", ""}},
		"Unreachable": {key: "there", cache: broken, etcd: broken, err: broken, asked: []string{"7", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "there", UID: "uid"}}
			c := fake.NewClientBuilder().WithObjects(o).WithInterceptorFuncs(interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
					rv := (&client.GetOptions{}).ApplyOptions(opts).AsGetOptions().ResourceVersion
					asked = append(asked, rv)
					if err := map[bool]error{true: tc.etcd, false: tc.cache}[rv == ""]; err != nil {
						return err
					}
					return c.Get(ctx, key, o)
				},
			}).Build()
			got, err := stored.Since(t.Context(), c, corev1.SchemeGroupVersion.WithKind("ConfigMap"), client.ObjectKey{Namespace: "ns", Name: tc.key}, "7")
			if !errors.Is(err, tc.err) {
				t.Errorf("got the error %v, want %v", err, tc.err)
			}
			if (got == nil) != (tc.want == "") || got != nil && got.UID != tc.want {
				t.Errorf("got %+v, want UID %q", got, tc.want)
			}
			if len(asked) != len(tc.asked) || asked[0] != tc.asked[0] || asked[len(asked)-1] != tc.asked[len(asked)-1] {
				t.Errorf("asked at the versions %q, want %q", asked, tc.asked)
			}
		})
	}
}
