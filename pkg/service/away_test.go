package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"orkestra.dev/pkg/events"
)

// What a real client says of an API server that is gone, that hangs up, or that is not ready
// is not taken for a failure, and what it says of one that refuses is.
func TestAwayIsNoFailure(t *testing.T) {
	ask := func(handler http.HandlerFunc, then func(*httptest.Server)) error {
		server := httptest.NewServer(handler)
		defer server.Close()
		then(server)
		c, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{}, metav1.CreateOptions{})
		return fmt.Errorf("making a namespace: %w", err)
	}
	answers := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	hangsUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	nothing := func(*httptest.Server) {}
	resource := schema.GroupResource{Resource: "namespaces"}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"Gone":        {ask(hangsUp, (*httptest.Server).Close), true},
		"HangsUp":     {ask(hangsUp, nothing), true},
		"NotReady":    {ask(answers(http.StatusServiceUnavailable), nothing), true},
		"Forbidden":   {ask(answers(http.StatusForbidden), nothing), false},
		"Broken":      {ask(answers(http.StatusInternalServerError), nothing), false},
		"ServerBusy":  {apierrors.NewServerTimeout(resource, "create", 1), true},
		"Conflict":    {apierrors.NewConflict(resource, "x", errors.New("it has changed")), false},
		"OurOwnTime":  {context.DeadlineExceeded, false},
		"SomethingUs": {errors.New("a plan that cannot be read"), false},
	} {
		if got := away(c.err); got != c.want {
			t.Errorf("%s: away(%v) = %t", name, c.err, got)
		}
	}
	e := &Env{}
	if away := (&shared{}).bus(Service{Name: "stager"}, e).Away; away == nil || away(events.Terminal("Hopeless", nil)) {
		t.Error("the bus of a service does not know when the API server is away")
	}
}
