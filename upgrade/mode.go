package upgrade

import (
	"errors"
	"fmt"
	"strings"

	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/process"
)

// mode is the purpose of an attempt.
type mode int

const (
	modeUpgrade   mode = iota // replaces this process by a new build
	modeHangup                // after SIGHUP: replaces this process by the build in the file, which may be the same build
	modeRestart               // replaces this process by the program in the file, even by the same build or another program
	modeRehearsal             // tries the build in the file up to the smoke test, and then takes the attempt back
	modeRollback              // replaces this process by the build that was committed before
	modeRevive                // after an abort and the death of the old process: starts the committed build (see revive)
)

func (m mode) String() string {
	return [...]string{"upgrade", "upgrade", "restart", "rehearsal", "rollback", "restart"}[m]
}

// done returns the word for the success of an attempt.
func (m mode) done() string {
	if m == modeRehearsal {
		return "rehearsed"
	}
	return "committed"
}

// judged reports whether Smoke and Bake are called. They are not called for modeRollback and modeRevive, because a judge must
// not prevent the return to a build that was good.
func (m mode) judged() bool { return m != modeRollback && m != modeRevive }

// policy returns the rules for the files that may be started.
func (m mode) policy(o *Options) process.Policy {
	p := process.Policy{Other: m == modeRestart, Plain: m.refusePlain(o), Wrapper: m.refuseWrapper(o)}
	if o.Verify != nil {
		p.Verify = func(path string) error { return guard.Call(func() error { return o.Verify(path) }) }
	}
	if m == modeUpgrade {
		p.SameBuild = ErrSameBuild
	}
	return p
}

// errNotRehearsed is the reason why a rehearsal refuses a program with tableflip only.
var errNotRehearsed = errors.New("cannot be rehearsed")

// refusePlain returns the reason for refusing a program with tableflip only. Such a program has the listening sockets before
// any check, and no judge can reach the program. A rehearsal always refuses such a program. In the other modes, the result is
// nil if Options.AllowPlain is set, or if judged returns false.
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

// refuseWrapper returns the reason for refusing a wrapper, for example a script. The wrapper, and every process that the
// wrapper starts, would have the listening sockets from the start. The result is nil if Options.AllowWrapper is set, or if
// judged returns false.
func (m mode) refuseWrapper(o *Options) error {
	if o.AllowWrapper || !m.judged() {
		return nil
	}
	return errors.New("would hold the listening sockets from its start, with all that it starts: make the build itself Options.Executable, or set Options.AllowWrapper")
}

// judges returns the names of the options that are set and decide about candidates.
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
