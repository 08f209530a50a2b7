package upgrade

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// Each mode allows other files: only Upgrade refuses the build that runs, only Restart may start another program, and a
// rehearsal needs a program with this library. A program with tableflip only needs AllowPlain, and a file without the mark
// needs AllowWrapper. A rollback and a revival need neither.
func TestEachModeHasItsPolicy(t *testing.T) {
	verify := func(string) error { return nil }
	judge := func(context.Context, *Candidate) error { return nil }
	for m, want := range map[mode]struct{ same, other, rehearsed, judged bool }{
		modeUpgrade: {same: true, judged: true}, modeHangup: {judged: true}, modeRestart: {other: true, judged: true},
		modeRehearsal: {rehearsed: true}, modeRollback: {}, modeRevive: {},
	} {
		for names, o := range map[string]Options{
			"": {}, "Options.Verify": {Verify: verify}, "Options.Smoke": {Smoke: judge}, "Options.Bake": {Bake: judge},
			"Options.Verify and Options.Smoke and Options.Bake": {Verify: verify, Smoke: judge, Bake: judge},
		} {
			for _, allow := range []bool{false, true} {
				o.AllowPlain, o.AllowWrapper = allow, !allow
				p := m.policy(&o)
				if errors.Is(p.SameBuild, ErrSameBuild) != want.same || p.Other != want.other || (p.Verify != nil) != (o.Verify != nil) {
					t.Errorf("%v, %q: %+v", m, names, p)
				}
				if (p.Wrapper != nil) != ((want.judged || want.rehearsed) && allow) {
					t.Errorf("%v, AllowWrapper %v: %v", m, !allow, p.Wrapper)
				}
				why := "accepts before it is committed: "
				if names != "" {
					why = "out of the reach of " + names + ": "
				}
				if refused := want.judged && !allow; (refused || want.rehearsed) != (p.Plain != nil) {
					t.Errorf("%v, %q, AllowPlain %v: %v", m, names, allow, p.Plain)
				} else if refused && !strings.Contains(p.Plain.Error(), why) {
					t.Errorf("%v, %q: the reason is %v", m, names, p.Plain)
				}
			}
		}
	}
}

// A Verify that panics refuses the file, and does not end the process that serves.
func TestVerifyMayPanic(t *testing.T) {
	p := modeUpgrade.policy(&Options{Verify: func(string) error { panic("no") }})
	if err := p.Verify("/any"); err == nil || !strings.Contains(err.Error(), "panic: no") {
		t.Error(err)
	}
}
