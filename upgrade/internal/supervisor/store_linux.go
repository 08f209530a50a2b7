package supervisor

import (
	"os"
	"slices"
	"strings"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// store holds the sockets of the service by name, for the next process that is started.
type store struct {
	sockets map[socketID]*kept
	named   map[string][]*kept // the same sockets by name
	added   int                // how many sockets were added so far
}

type kept struct {
	name   string
	file   *os.File
	id     socketID
	number int // the sockets are numbered in the order in which they were added
}

// socketID identifies a socket by its device and inode.
type socketID struct{ dev, ino uint64 }

// storeLimit is how many sockets the store holds at most: enough for the main generation and the generation before.
const storeLimit = 2 * sdnotify.MostSockets

func newStore(files []*os.File) *store {
	s := &store{sockets: map[socketID]*kept{}, named: map[string][]*kept{}}
	for _, f := range files {
		s.add(f.Name(), f)
	}
	return s
}

// add puts a socket into the store, and owns the file from then on. held is nil if the store cannot hold the socket. If the
// store holds the socket already, add gives the socket the new name and closes the file. But if the old or the new name comes
// from a socket unit, the old name stays. before is the name that the socket had before this call; empty for a new socket.
func (s *store) add(name string, f *os.File) (held *kept, before string) {
	var st unix.Stat_t
	if err := unix.Fstat(int(sys.FD(f)), &st); err != nil || len(s.sockets) >= storeLimit {
		f.Close()
		return nil, ""
	}
	id := socketID{uint64(st.Dev), st.Ino}
	if held = s.sockets[id]; held != nil {
		f.Close()
		before = held.name
		if strings.HasPrefix(name, sdnotify.StorePrefix) && strings.HasPrefix(before, sdnotify.StorePrefix) {
			s.rename(held, name) // the same address, spelled in another way
		}
		return held, before
	}
	s.added++
	held = &kept{name, f, id, s.added}
	s.sockets[id], s.named[name] = held, append(s.named[name], held)
	return held, ""
}

func (s *store) rename(k *kept, name string) {
	if k.name == name {
		return
	}
	if s.named[k.name] = slices.DeleteFunc(s.named[k.name], func(o *kept) bool { return o == k }); len(s.named[k.name]) == 0 {
		delete(s.named, k.name)
	}
	k.name, s.named[name] = name, append(s.named[name], k)
}

func (s *store) remove(name string) {
	for _, k := range s.named[name] {
		k.file.Close()
		delete(s.sockets, k.id)
	}
	delete(s.named, name)
}

// list returns the sockets in the order in which they were added.
func (s *store) list() (all []kept) {
	for _, k := range s.sockets {
		all = append(all, *k)
	}
	slices.SortFunc(all, func(a, b kept) int { return a.number - b.number })
	return all
}

func (s *store) close() {
	for _, k := range s.sockets {
		k.file.Close()
	}
	clear(s.sockets)
	clear(s.named)
}
