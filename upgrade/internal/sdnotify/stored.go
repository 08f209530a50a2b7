package sdnotify

import (
	"slices"
	"sync"
	"syscall"
)

// Stored gives access to the descriptor of the passed socket with this name. The socket stays in p, so Take can still return
// it.
func (p *Activation) Stored(name string) (c syscall.RawConn, ok bool) {
	if p == nil || name == "" {
		return nil, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.Files {
		if f.Name() == name {
			c, err := f.SyscallConn()
			return c, err == nil
		}
	}
	return nil, false
}

// nameSet is the set of names of the sockets that a Notifier has stored.
type nameSet struct {
	mu  sync.Mutex
	all []string
}

func (s *nameSet) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.all, name) {
		s.all = append(s.all, name)
	}
}

func (s *nameSet) remove(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.all)
	s.all = slices.DeleteFunc(s.all, func(o string) bool { return o == name })
	return len(s.all) < n
}

func (s *nameSet) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}
