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
	l, c := listen(t), &cut{done: make(chan struct{})}
	c.addr = l.Addr().String()
	var once sync.Once
	go relay(l, server, func(sent []byte) bool {
		if !bytes.Contains(sent, []byte(word)) {
			return true
		}
		once.Do(func() { _ = l.Close(); close(c.done) })
		return false
	})
	return c
}

// firstBefore forwards to a server, and does something before a client sends a word for the first time. It
// returns its address.
func firstBefore(t *testing.T, word, server string, do func()) string {
	t.Helper()
	l := listen(t)
	var once sync.Once
	go relay(l, server, func(sent []byte) bool {
		if bytes.Contains(sent, []byte(word)) {
			once.Do(do)
		}
		return true
	})
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// relay forwards what comes in at l to a server, as long as may allows it.
func relay(l net.Listener, server string, may func(sent []byte) bool) {
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
			if !may(chunk[:n]) {
				return
			}
			if _, writeErr := upstream.Write(chunk[:n]); err != nil || writeErr != nil {
				return
			}
		}
	}
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		go forward(client)
	}
}
