package pidfile

import "fmt"

// WriteLast writes a text beside the pid file, whole or not at all.
func (p *File) WriteLast(text []byte) error {
	if p.path == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.rest()
	if err := p.writeLast(text); err != nil {
		return fmt.Errorf("%s: %w", p.path+lastSuffix, err)
	}
	return nil
}

func (p *File) writeLast(text []byte) error {
	if err := p.hold(); err != nil {
		return err
	}
	var s staged
	f, err := p.create(&s)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		p.drop(&s)
		return err
	}
	return p.place(&s, p.base()+lastSuffix)
}
