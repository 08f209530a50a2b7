package upgrade

import (
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
