//go:build !linux

package subprocess_test

import (
	"errors"
	"net/http"
	"os/exec"
	"testing"

	"github.com/midair-go/midair/canary/subprocess"
)

// Where there are no processes of this kind, Start and Serve say so, and wrong options are still errors.
func TestOtherSystemsAreUnsupported(t *testing.T) {
	_, err := subprocess.Start(t.Context(), subprocess.Options{Cmd: func() *exec.Cmd { return nil }})
	for _, err := range []error{err, subprocess.Serve(http.NotFoundHandler())} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	}
	if _, err := subprocess.Start(t.Context(), subprocess.Options{}); err == nil || errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
