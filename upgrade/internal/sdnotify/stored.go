package sdnotify

import (
	"slices"
	"sync"
)

// nameSet is the set of names under which sockets are kept.
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
