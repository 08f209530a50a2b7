//go:build !linux

package subprocess

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
)

// A Handler exists on Linux only.
type Handler struct{}

var errOther = fmt.Errorf("subprocess: not on %s: %w", runtime.GOOS, errors.ErrUnsupported)

// Serve returns an error that is errors.ErrUnsupported.
func Serve(http.Handler) error { return errOther }

// Start returns an error that is errors.ErrUnsupported.
func Start(_ context.Context, opts Options) (*Handler, error) {
	if _, err := opts.withDefaults(); err != nil {
		return nil, err
	}
	return nil, errOther
}

// ServeHTTP is never called, as there is no Handler.
func (h *Handler) ServeHTTP(http.ResponseWriter, *http.Request) {}

// Replace returns an error.
func (h *Handler) Replace(context.Context) error { return errOther }

// Close returns nil.
func (h *Handler) Close() error { return nil }

// Status returns the zero Status.
func (h *Handler) Status() Status { return Status{} }
