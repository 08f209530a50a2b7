package pidfile

import (
	"fmt"
	"os"
)

// outcomeRoom is how many bytes Reserve reserves on the disk. The text of an outcome needs less, because the reason in the text
// is cut at 4 KiB.
const outcomeRoom = 16 << 10

// Reserve reserves room on the disk for the text of WriteLast, so that WriteLast does not fail because the disk is full.
// WriteLast and Unreserve release the room, and so does Discard for the pid of this process.
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

// Unreserve releases the room that Reserve has reserved, if there is any.
func (p *File) Unreserve() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(&p.outcome)
	p.rest()
}

// WriteLast writes text to the file beside the pid file. A reader sees the whole old text or the whole new text.
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

// aboutOutcome locks p, opens the directory, and calls fn. If there is no pid file, aboutOutcome does nothing.
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

// fill reserves room on the disk by writing zeros. It is used on platforms and file systems without fallocate.
func fill(f *os.File, size int) error {
	_, err := f.WriteAt(make([]byte, size), 0)
	return err
}
