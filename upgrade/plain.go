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

// refusePlain returns why a plain candidate will not do: it has the listening sockets before anybody has looked at it, and goes
// past the judges of the program. It is nil if Options.AllowPlain says that it may.
func (m mode) refusePlain(o *Options) error {
	if m == modeRehearsal {
		return errNotRehearsed
	}
	if o.AllowPlain || !m.judged() {
		return nil
	}
	why := "accepts before it is committed"
	if names := o.judges(); len(names) > 0 {
		why = "is out of the reach of " + strings.Join(names, " and ")
	}
	return fmt.Errorf("%s: use a build with this library, or set Options.AllowPlain", why)
}

// refuseWrapper returns why a file will not do that does not say what its program is: it, and all that it starts, would have the
// listening sockets from its start. It is nil if Options.AllowWrapper says that it may, and for a build that was good before.
func (m mode) refuseWrapper(o *Options) error {
	if o.AllowWrapper || !m.judged() {
		return nil
	}
	return errors.New("would hold the listening sockets from its start, with all that it starts: make the build itself Options.Executable, or set Options.AllowWrapper")
}

// admitPlain decides about a candidate that has written the Ready byte, and has said no hello. A rehearsal tells in phase smoke.
func (a *attempt) admitPlain() error {
	if a.child.passing.waits {
		return fmt.Errorf("it does not speak the control protocol: its file says that it takes its listening sockets there, and it is ready without the %d that wait for it: does it call upgrade.New?", a.child.passing.total)
	}
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
