package sdnotify

import (
	"maps"
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
	p.look()
	for _, f := range p.named[name] {
		if !p.taken[f] {
			c, err := f.SyscallConn()
			return c, err == nil
		}
	}
	return nil, false
}

// nameSet is the set of names of the sockets that a Notifier has stored.
type nameSet struct {
	mu  sync.Mutex
	all map[string]bool
}

func (s *nameSet) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]bool{}
	}
	s.all[name] = true
}

func (s *nameSet) remove(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := s.all[name]
	delete(s.all, name)
	return had
}

func (s *nameSet) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.all))
}
