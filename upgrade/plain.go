package upgrade

import (
	"errors"
	"fmt"
	"strings"
)

// A candidate that does not speak the control protocol, from the old process's side: a program with tableflip only, or whatever
// else writes tableflip's Ready byte. Nobody can hold such a program back, look at it over a private connection, or give it a
// part of the connections: it accepts from its start, and its Ready is its commit.

// judges names the options that decide about candidates.
func (o *Options) judges() []string {
	var names []string
	if o.Verify != nil {
		names = append(names, "Options.Verify")
	}
	if o.Smoke != nil {
		names = append(names, "Options.Smoke")
	}
	if o.Bake != nil {
		names = append(names, "Options.Bake")
	}
	return names
}

// errNotRehearsed refuses a plain candidate in a rehearsal.
var errNotRehearsed = errors.New("cannot be rehearsed")

// refusePlain returns why a plain candidate will not do: it would go past the judges of the program. It is nil if there are
// none, or Options.AllowPlain says that it may.
func (m mode) refusePlain(o *Options) error {
	if m == modeRehearsal {
		return errNotRehearsed
	}
	names := o.judges()
	if o.AllowPlain || len(names) == 0 || !m.judged() {
		return nil
	}
	return fmt.Errorf("is out of the reach of %s: use a build with this library, or set Options.AllowPlain", strings.Join(names, " and "))
}

// admitPlain decides about a candidate that has written the Ready byte, and has said no hello. A rehearsal tells in phase smoke.
func (a *attempt) admitPlain() error {
	if a.mode == modeRehearsal {
		return nil
	}
	if err := a.mode.refusePlain(&a.u.opts); err != nil {
		return fmt.Errorf("it does not speak the control protocol: it knows tableflip only, and %w", err)
	}
	if names := a.u.opts.judges(); len(names) > 0 {
		a.u.log.Warn("upgrade: the candidate knows tableflip only: it is not judged", "candidate", a.child.PID, "judges", names)
	}
	return nil
}
