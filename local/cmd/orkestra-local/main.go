// Command orkestra-local runs a whole Orkestra on this machine: see package stack.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

func main() {
	// client-go logs what it returns as an error, too, and once for each of the requests that an interrupt cuts off.
	klog.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "orkestra-local:", err)
		if errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, "What was started is recorded: `orkestra-local up` continues, `orkestra-local down` takes it away.")
		}
		os.Exit(1)
	}
}
