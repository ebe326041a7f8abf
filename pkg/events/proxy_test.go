package events_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// cut is a connection that dies at a chosen word of the client.
type cut struct {
	addr string
	done chan struct{}
}

// cutBefore forwards to a server until a client is about to send a word; that,
// and whatever comes after it, is not sent, and nobody connects again.
func cutBefore(t *testing.T, word, server string) *cut {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cut{addr: l.Addr().String(), done: make(chan struct{})}
	t.Cleanup(func() { _ = l.Close() })
	var once sync.Once
	forward := func(client net.Conn) {
		defer func() { _ = client.Close() }()
		upstream, err := net.Dial("tcp", server)
		if err != nil {
			return
		}
		defer func() { _ = upstream.Close() }()
		go func() { _, _ = io.Copy(client, upstream) }()
		chunk := make([]byte, 64<<10)
		for {
			n, err := client.Read(chunk)
			if bytes.Contains(chunk[:n], []byte(word)) {
				once.Do(func() { _ = l.Close(); close(c.done) })
				return
			}
			if _, writeErr := upstream.Write(chunk[:n]); err != nil || writeErr != nil {
				return
			}
		}
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go forward(client)
		}
	}()
	return c
}
