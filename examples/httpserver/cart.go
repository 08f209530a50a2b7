package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/canary/subprocess"
	"github.com/midair-go/midair/examples/internal/failing"
)

// oldCart is the old handler of /cart, and newCart is the new handler.
func oldCart(w http.ResponseWriter, r *http.Request) {
	noStore(w, "text/plain; charset=utf-8")
	fmt.Fprintln(w, canary.Stable)
}

func newCart(w http.ResponseWriter, r *http.Request) {
	noStore(w, "text/plain; charset=utf-8")
	fmt.Fprintln(w, canary.Canary)
}

// A cartHandler is the new cart. It runs in this process, or, with -canary-bin, in a process of its own.
type cartHandler struct {
	http.Handler
	process *subprocess.Handler // nil without -canary-bin
}

// openCart starts the process of the new cart, if -canary-bin is given. During an upgrade, each process of the service has a cart
// of its own.
func openCart(ctx context.Context, c config) (cartHandler, error) {
	if c.canaryBin == "" {
		return cartHandler{Handler: http.HandlerFunc(newCart)}, nil
	}
	h, err := subprocess.Start(ctx, subprocess.Options{
		Name: "cart-v2", Drain: c.grace, Cmd: func() *exec.Cmd { return exec.Command(c.canaryBin, "cart") },
	})
	if err != nil {
		return cartHandler{}, fmt.Errorf("-canary-bin %s: %w", c.canaryBin, err)
	}
	return cartHandler{h, h}, nil
}

// Close ends the process of the cart when its requests have ended.
func (c cartHandler) Close() error {
	if c.process == nil {
		return nil
	}
	return c.process.Close()
}

func (c cartHandler) status() *subprocess.Status {
	if c.process == nil {
		return nil
	}
	s := c.process.Status()
	return &s
}

const cartSynopsis = `Usage: httpserver cart [flags]

Runs the new cart. This command is for a service with the flag -canary-bin, which starts it.

`

// cartCommand is the main of the process of the new cart.
func cartCommand(args []string) error {
	var mode failing.Mode
	fs := flagSet("httpserver cart", cartSynopsis)
	if err := addFail(fs, &mode); err != nil {
		return err
	}
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	err := subprocess.Serve(mode.Cart(http.HandlerFunc(newCart)))
	if errors.Is(err, subprocess.ErrHostEnded) {
		return nil
	}
	return err
}
