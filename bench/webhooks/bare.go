package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"orkestra.dev/pkg/events"
)

// bareSubject is of the same stream, and of no Receiver.
const bareSubject = "orkestra.v1.webhook.bare"

// serveBare is the peer: a handler that reads a request, stores as many bytes as intake
// does, and answers. It looks at nothing, and makes no event.
func serveBare(ctx context.Context, addr string, size int, getenv func(string) string) error {
	nc, js, err := connect(getenv, events.InboxOf("intake"))
	if err != nil {
		return err
	}
	defer nc.Close()
	event := make([]byte, size)
	if _, err := rand.Read(event); err != nil {
		return err
	}
	server := &http.Server{Addr: addr, ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, `{}`, http.StatusBadRequest)
			return
		}
		id := rand.Text()
		if _, err := js.Publish(r.Context(), bareSubject, event, jetstream.WithMsgID(id)); err != nil {
			log.Print(err)
			http.Error(w, `{}`, http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		if err := json.NewEncoder(w).Encode(map[string]string{"id": id}); err != nil {
			log.Print(err)
		}
	})}
	go func() {
		<-ctx.Done()
		if err := server.Close(); err != nil {
			log.Print(err)
		}
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// connect to the bus by NKey and TLS, as our services do.
func connect(getenv func(string) string, inbox string) (*nats.Conn, jetstream.JetStream, error) {
	key, err := nats.NkeyOptionFromSeed(getenv("NATS_NKEY"))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the NKey: %w", err)
	}
	nc, err := nats.Connect(getenv("NATS_URL"), key, nats.RootCAs(getenv("NATS_CA")), nats.CustomInboxPrefix(inbox))
	if err != nil {
		return nil, nil, fmt.Errorf("connecting to NATS: %w", err)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(10*time.Second))
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("using JetStream: %w", err)
	}
	return nc, js, nil
}
