package pidfile

import (
	"fmt"
	"os"
)

// outcomeRoom is how much Reserve takes on the disk: more than outcomes with reasons of candidates need, which are cut at
// 4 KiB.
const outcomeRoom = 16 << 10

// Reserve takes room on the disk for the text of WriteLast, which then does not fail because the disk is full. WriteLast,
// Unreserve and Discard give the room back.
func (p *File) Reserve() error {
	return p.aboutOutcome(func() error {
		if p.outcome.name != "" {
			return nil
		}
		if err := p.create(&p.outcome); err != nil {
			return err
		}
		err := allocate(p.outcome.file, outcomeRoom)
		if err != nil {
			p.drop(&p.outcome)
		}
		return err
	})
}

// Unreserve gives back what Reserve has taken, if anything.
func (p *File) Unreserve() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(&p.outcome)
	p.rest()
}

// WriteLast writes a text beside the pid file, whole or not at all.
func (p *File) WriteLast(text []byte) error {
	return p.aboutOutcome(func() error {
		if p.outcome.name != "" && p.putOutcome(text) == nil {
			return nil
		}
		if err := p.create(&p.outcome); err != nil {
			return err
		}
		return p.putOutcome(text)
	})
}

func (p *File) putOutcome(text []byte) error {
	if err := p.write(&p.outcome, text); err != nil {
		return err
	}
	return p.place(&p.outcome, p.base()+lastSuffix)
}

// aboutOutcome calls fn while the directory is held.
func (p *File) aboutOutcome(fn func() error) error {
	if p.path == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.rest()
	err := p.hold()
	if err == nil {
		err = fn()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.path+lastSuffix, err)
	}
	return nil
}

// fill takes room on the disk where nothing else does: by writing.
func fill(f *os.File, size int) error {
	_, err := f.WriteAt(make([]byte, size), 0)
	return err
}
