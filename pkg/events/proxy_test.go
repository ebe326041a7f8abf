package events_test

import (
	"bytes"
	"net"
	"regexp"
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
	go relay(l, server, func(client bool, sent []byte) bool {
		if !client || !bytes.Contains(sent, []byte(word)) {
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
	go relay(l, server, func(client bool, sent []byte) bool {
		if client && bytes.Contains(sent, []byte(word)) {
			once.Do(do)
		}
		return true
	})
	return l.Addr().String()
}

// silenced forwards to a server until that is said to be silent: then nothing is sent either way, and every connection
// stays. It returns its address.
func silenced(t *testing.T, server string) (addr string, silence func()) {
	t.Helper()
	l, quiet := listen(t), make(chan struct{})
	go relay(l, server, func(bool, []byte) bool {
		select {
		case <-quiet:
			<-t.Context().Done()
			return false
		default:
			return true
		}
	})
	return l.Addr().String(), sync.OnceFunc(func() { close(quiet) })
}

// What a consumer says is still to come: in an answer about itself, and in the address of a message.
var (
	pendingInfo    = regexp.MustCompile(`("num_pending":)\d`)
	pendingMessage = regexp.MustCompile(`(\$JS\.ACK\.\S+\.)\d `)
)

// behind forwards to a server, and has each of its consumers say that nothing is to come, for as long as that is a number
// of one digit. It returns its address.
func behind(t *testing.T, server string) string {
	t.Helper()
	l := listen(t)
	go relay(l, server, func(client bool, sent []byte) bool {
		if !client {
			said := pendingInfo.ReplaceAll(sent, []byte("${1}0"))
			copy(sent, pendingMessage.ReplaceAll(said, []byte("${1}0 ")))
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

// relay forwards between a server and who comes in at l, as long as may allows what a client, or the server, has sent.
func relay(l net.Listener, server string, may func(client bool, sent []byte) bool) {
	pump := func(to, from net.Conn, client bool) {
		defer func() { _ = to.Close() }()
		chunk := make([]byte, 64<<10)
		for {
			n, err := from.Read(chunk)
			if !may(client, chunk[:n]) {
				return
			}
			if _, writeErr := to.Write(chunk[:n]); err != nil || writeErr != nil {
				return
			}
		}
	}
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		upstream, err := net.Dial("tcp", server)
		if err != nil { // the server is away, and to a client that is a connection that ends
			_ = client.Close()
			continue
		}
		go pump(upstream, client, true)
		go pump(client, upstream, false)
	}
}
