package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// previous is the build that was committed before the one of this generation: its executable, as a descriptor that
// outlives the file, and the arguments that it was started with. The old process sends it to every candidate, for Rollback.
type previous struct {
	mu      sync.Mutex
	exe     *os.File
	args    []string // with the name
	version string
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
	if p.exe == nil {
		return program{}, fmt.Errorf("%w: nothing is known of an earlier build", ErrNotReady)
	}
	exe, err := dupFile(p.exe)
	if err != nil {
		return program{}, fmt.Errorf("the executable of the earlier build: %w", err)
	}
	return program{args: p.args, exe: exe}, nil
}

// build describes it; nil if there is none.
func (p *previous) build() *Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exe == nil {
		return nil
	}
	return &Process{Version: p.version}
}

// take reads what the old process sent.
func (p *previous) take(f frame) error {
	if len(f.files) < 2 {
		return errors.New("the executable of the old process did not come along")
	}
	values, err := readState(f.files[1], argsLimit)
	if err != nil {
		return err
	}
	exe, err := dupFile(f.files[0])
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
	p.exe, p.version = exe, string(values["version"])
	p.args = strings.Split(string(values["args"]), "\x00")
	return nil
}

func (p *previous) drop() {
	if p.exe != nil {
		p.exe.Close()
		p.exe = nil
	}
}

func (p *previous) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
}

// argsLimit is more than the kernel lets a process be started with.
const argsLimit = 8 << 20

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
	exe, err := openSelf()
	if err != nil {
		return err
	}
	defer exe.Close()
	return (&previous{exe: exe, args: startArgs, version: u.opts.Version}).pass(c.link)
}

func (p *previous) pass(to *link) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exe == nil {
		return nil
	}
	args, err := p.argsFile()
	if err != nil {
		return err
	}
	defer args.Close()
	return to.send(kindPrevious, nil, p.exe, args)
}

// argsFile writes what goes with the executable.
func (p *previous) argsFile() (*os.File, error) {
	b := appendStateHeader(nil, 2)
	b = appendStateEntry(b, "version", []byte(p.version))
	b = appendStateEntry(b, "args", []byte(strings.Join(p.args, "\x00"))) // no argument has a zero byte
	return writeState(b)
}
