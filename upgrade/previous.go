package upgrade

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/state"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// previous holds the build that a rollback starts: the last committed build that differs from the build of this generation.
// This process has received the build from the old process, or after a crash from the supervisor.
type previous struct {
	mu      sync.Mutex
	build   *process.Build // nil if none is known
	earlier bool           // the old process ran the same build as this process, and build is from an earlier process
}

// program returns the program that a rollback starts. It may wait for a file system.
func (p *previous) program() (process.Program, error) {
	b, err := p.copy()
	switch {
	case err != nil:
		return process.Program{}, fmt.Errorf("the executable of the earlier build: %w", err)
	case b == nil:
		return process.Program{}, fmt.Errorf("%w: nothing is known of an earlier build", ErrNotReady)
	}
	defer b.Close()
	return b.Program() // may wait for a file system, so the lock is not held: Status needs the lock
}

// replaced returns the program of the build that the old process ran. As long as this process is not committed, that build is
// the committed build. The old process sends its build if the build differs from the build of this process. If that build has
// not come, the result is the build of this process: the old process ran the same build, or could not send its own. replaced
// may wait for a file system, and holds no lock then.
func (p *previous) replaced(version string) (process.Program, error) {
	p.mu.Lock()
	earlier := p.earlier
	p.mu.Unlock()
	b, err := p.copy()
	if b == nil || earlier {
		b.Close()
		b, err = process.Own(version)
	}
	if err != nil {
		return process.Program{}, err
	}
	defer b.Close()
	return b.Program()
}

// status describes the build for Status. The result is nil if no build is known.
func (p *previous) status() *Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.build == nil {
		return nil
	}
	return &Process{Version: p.build.Version}
}

// take takes the build from two files of the old process or of the supervisor: the executable, and a file with the version and
// the arguments. The caller still has to close both files. The argument earlier is PreviousBody.Earlier.
func (p *previous) take(files []*os.File, earlier bool) error {
	if len(files) < 2 {
		return errors.New("the executable of the old process did not come along")
	}
	b, err := state.ReadBuild(files[1])
	if err != nil {
		return err
	}
	if b.Exe, err = sys.DupFile(files[0]); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.build.Close()
	p.build, p.earlier = b, earlier
	return nil
}

func (p *previous) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.build.Close()
	p.build = nil
}

// pass sends the build, if one is known. It does not hold the lock while it sends, because Status needs the lock.
func (p *previous) pass(to *wire.Link) error {
	b, err := p.copy()
	if b == nil || err != nil {
		return err
	}
	defer b.Close()
	return sendBuild(to, b, true)
}

// copy returns a copy of the build, which the caller has to close. The copy has a descriptor of its own. The result is nil if
// no build is known.
func (p *previous) copy() (*process.Build, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.build == nil {
		return nil, nil
	}
	exe, err := sys.DupFile(p.build.Exe)
	if err != nil {
		return nil, err
	}
	return &process.Build{Exe: exe, Version: p.build.Version, Args: p.build.Args}, nil
}

// receive takes the build from a message of the old process.
func (p *previous) receive(f wire.Frame) error {
	var body wire.PreviousBody
	if len(f.Body) > 0 { // earlier builds of this library send no body
		if err := f.Decode(&body); err != nil {
			return err
		}
	}
	return p.take(f.Files, body.Earlier)
}

// sendBuild sends a build. The caller still has to close the build's descriptor. The argument earlier is PreviousBody.Earlier.
func sendBuild(to *wire.Link, b *process.Build, earlier bool) error {
	args, err := state.WriteBuild(&process.Build{Version: b.Version, Args: b.Args})
	if err != nil {
		return err
	}
	defer args.Close()
	return to.Send(wire.KindPrevious, wire.PreviousBody{Earlier: earlier}, b.Exe, args)
}
