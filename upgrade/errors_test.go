package upgrade_test

import (
	"errors"
	"testing"

	"github.com/midair-go/midair/upgrade"
)

// errors.Is finds errors.ErrUnsupported in ErrNotSupported, as a program expects from the standard library.
func TestNotSupportedIsErrUnsupported(t *testing.T) {
	if !errors.Is(upgrade.ErrNotSupported, errors.ErrUnsupported) {
		t.Error("ErrNotSupported is no errors.ErrUnsupported")
	}
	if errors.Is(upgrade.ErrNotReady, errors.ErrUnsupported) {
		t.Error("ErrNotReady is an errors.ErrUnsupported")
	}
}
