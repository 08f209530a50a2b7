package upgrade_test

import (
	"errors"
	"testing"

	"github.com/midair-go/midair/upgrade"
)

// A program that asks the standard library's question about a platform gets the answer.
func TestNotSupportedIsErrUnsupported(t *testing.T) {
	if !errors.Is(upgrade.ErrNotSupported, errors.ErrUnsupported) {
		t.Error("ErrNotSupported is no errors.ErrUnsupported")
	}
	if errors.Is(upgrade.ErrNotReady, errors.ErrUnsupported) {
		t.Error("ErrNotReady is an errors.ErrUnsupported")
	}
}
