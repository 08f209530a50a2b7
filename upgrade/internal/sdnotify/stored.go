package sdnotify

import (
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/midair-go/midair/internal/sys"
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

// candidates returns the passed files that were not taken and are no kept sockets, and the kept sockets with this name.
func (p *Activation) candidates(name string) []*os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look()
	files := slices.Clone(p.others)
	if strings.HasPrefix(name, StorePrefix) {
		files = append(files, p.named[name]...)
	}
	return slices.DeleteFunc(files, func(f *os.File) bool { return p.taken[f] })
}

// take notes that a file was taken. The caller holds p.mu, and has called look.
func (p *Activation) take(f *os.File) {
	if p.taken == nil {
		p.taken = map[*os.File]bool{}
	}
	p.taken[f] = true
	if strings.HasPrefix(f.Name(), StorePrefix) {
		p.left--
	}
}

// look notes the names of the passed files, and the inodes of the sockets of socket units. The caller holds p.mu.
func (p *Activation) look() {
	if p.named == nil {
		p.named = map[string][]*os.File{}
	}
	for ; p.known < len(p.Files); p.known++ {
		f := p.Files[p.known]
		p.named[f.Name()] = append(p.named[f.Name()], f)
		if strings.HasPrefix(f.Name(), StorePrefix) {
			p.left++
			continue
		}
		p.others = append(p.others, f)
		if inode, ok := inodeOf(f); ok {
			p.units = append(p.units, inode)
		}
	}
}

func inodeOf(f *os.File) (inode uint64, ok bool) {
	fd, inode, err := sys.Duplicate(f)
	if err != nil {
		return 0, false
	}
	sys.CloseFD(fd)
	return inode, true
}

// ofUnit reports whether the socket in f belongs to a socket unit. The caller holds p.mu.
func (p *Activation) ofUnit(f *os.File) bool {
	if len(p.units) == 0 {
		return false
	}
	inode, ok := inodeOf(f)
	return ok && slices.Contains(p.units, inode)
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
