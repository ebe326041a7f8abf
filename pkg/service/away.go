package service

import (
	"errors"
	"net"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// away reports whether an error says that the API server cannot be reached, or does not
// serve for now. Who waits for it has not failed, however long that takes.
func away(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	return utilnet.IsProbableEOF(err) || utilnet.IsHTTP2ConnectionLost(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err)
}
