// Command demo stands in for the applications of the example charts: an HTTP server that says who it is, and is there
// within milliseconds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	name := flag.String("name", "demo", "what it says it is")
	listen := flag.String("listen", ":8080", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *listen, *name); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, address, name string) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("asking for the name of the pod: %w", err)
	}
	server := &http.Server{Addr: address, Handler: handler(name, host), ReadHeaderTimeout: 5 * time.Second}
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		stopped <- server.Shutdown(patience)
	})
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("listening on %s: %w", address, err)
	}
	return <-stopped
}

// handler answers every path, as the probes of the charts ask different ones.
func handler(name, host string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		// Who hangs up does not want the answer.
		_, _ = fmt.Fprintf(w, "%s on %s\n", name, host)
	})
}
