package upgrade

import (
	"errors"
	"strings"
	"testing"
)

// What may be started depends on what is asked for: only an upgrade refuses the build that runs, only Restart may start
// another program, and a rehearsal needs this library.
func TestEachModeHasItsPolicy(t *testing.T) {
	for m, want := range map[mode]struct{ same, other, library bool }{
		modeUpgrade: {same: true}, modeHangup: {}, modeRestart: {other: true}, modeRehearsal: {library: true}, modeRevive: {},
	} {
		p := m.policy(nil)
		if errors.Is(p.SameBuild, ErrSameBuild) != want.same || p.Other != want.other || p.Library != want.library || p.Verify != nil {
			t.Errorf("%v: %+v", m, p)
		}
	}
}

// A Verify that panics refuses the file, and does not end the process that serves.
func TestVerifyMayPanic(t *testing.T) {
	p := modeUpgrade.policy(func(string) error { panic("no") })
	if err := p.Verify("/any"); err == nil || !strings.Contains(err.Error(), "panic: no") {
		t.Error(err)
	}
}
