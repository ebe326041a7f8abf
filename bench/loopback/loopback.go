// Package loopback serves what a benchmark needs of the world, on a port that was free.
package loopback

import (
	"fmt"
	"net"
	"net/http"
)

// Serve answers on 127.0.0.1 until it is closed.
func Serve(h http.Handler) (url string, closing func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listening on loopback: %w", err)
	}
	server := &http.Server{Handler: h}
	go func() { _ = server.Serve(listener) }() // until it is closed
	return "http://" + listener.Addr().String(), server.Close, nil
}
