package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
)

// previous is the build that was committed before the one of this generation. The old process sends it to every candidate,
// for Rollback.
type previous struct {
	mu    sync.Mutex
	build *build // nil if none is known
}

// Rollback replaces this process by the last build that was committed before and is another one, with the arguments that
// it had then, and returns when that is over, as [Upgrader.Upgrade] does. The build is held by a descriptor, so it does not matter whether
// its file was replaced or deleted. It goes the way of an upgrade, checks included, but without Options.Verify, Smoke,
// Bake and Soak: it was good before, and what is bad is here. What is rolled back is the build; kept values stay as they
// are now, and a value that the older build cannot read fails its checks. A rollback may be rolled back.
//
// ErrNotReady: there is nothing to go back to, because this generation is the first, or the one before it did not use
// this package. ErrNotSupported: not on this platform; it needs Linux. The others are those of Upgrade.
func (u *Upgrader) Rollback(ctx context.Context) error {
	if !canRunDescriptor {
		return ErrNotSupported
	}
	return u.replace(ctx, modeRollback)
}

// program returns what a rollback starts.
func (p *previous) program() (program, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.build == nil {
		return program{}, fmt.Errorf("%w: nothing is known of an earlier build", ErrNotReady)
	}
	return p.build.program()
}

// status describes it; nil if there is none.
func (p *previous) status() *Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.build == nil {
		return nil
	}
	return &Process{Version: p.build.version}
}

// take reads what the old process sent.
func (p *previous) take(files []*os.File) error {
	if len(files) < 2 {
		return errors.New("the executable of the old process did not come along")
	}
	version, args, err := readBuild(files[1])
	if err != nil {
		return err
	}
	exe, err := dupFile(files[0])
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.build.close()
	p.build = &build{exe: exe, args: args, version: version}
	return nil
}

func (p *previous) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.build.close()
	p.build = nil
}

// bequeath sends the candidate what it could be rolled back to: the build of this process, or, if the candidate runs that
// one too, what this process could be rolled back to itself. A restart does not make one forget the build before.
func (u *Upgrader) bequeath(c *Candidate) error {
	if !canRunDescriptor {
		return nil
	}
	if exe, err := os.Open(executableOf(c.pid)); err == nil {
		defer exe.Close()
		if sameBuild(exe) {
			return u.previous.pass(c.link)
		}
	}
	own, err := ownBuild(u.opts.Version)
	if err != nil {
		return err
	}
	defer own.close()
	return (&previous{build: own}).pass(c.link)
}

func (p *previous) pass(to *link) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.build == nil {
		return nil
	}
	args, err := writeBuild(p.build.version, p.build.args)
	if err != nil {
		return err
	}
	defer args.Close()
	return to.send(kindPrevious, nil, p.build.exe, args)
}
