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
	modeUpgrade   mode = iota // to a new build
	modeHangup                // the same on SIGHUP, which asks for a restart of the same build as well
	modeRestart               // to whatever the file is
	modeRehearsal             // to prepared and smoke, and back
	modeRollback              // to the build that was committed before this one
	modeRevive                // see generation.revive: nothing is ours to judge or to open again
)

func (m mode) String() string {
	return [...]string{"upgrade", "upgrade", "restart", "rehearsal", "rollback", "restart"}[m]
}

// done names a good end of an attempt.
func (m mode) done() string {
	if m == modeRehearsal {
		return "rehearsed"
	}
	return "committed"
}

// judged reports whether the program's judges are asked. The way back to a good build must not depend on judges.
func (m mode) judged() bool { return m != modeRollback && m != modeRevive }

// policy returns which files may be started.
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

// errNotRehearsed refuses a program with tableflip only in a rehearsal.
var errNotRehearsed = errors.New("cannot be rehearsed")

// refusePlain returns why a program with tableflip only is refused: such a program has the listening sockets before any check, and
// the judges of the program cannot reach it. The result is nil with Options.AllowPlain.
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

// refuseWrapper returns why a file is refused that does not name its program: the file, and every process that the file starts,
// would have the listening sockets from its start. The result is nil with Options.AllowWrapper, and for a build that was good
// before.
func (m mode) refuseWrapper(o *Options) error {
	if o.AllowWrapper || !m.judged() {
		return nil
	}
	return errors.New("would hold the listening sockets from its start, with all that it starts: make the build itself Options.Executable, or set Options.AllowWrapper")
}

// judges returns the names of the options that decide about candidates.
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
