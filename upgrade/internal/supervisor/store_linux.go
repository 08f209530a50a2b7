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
type store struct{ all []kept }

type kept struct {
	name     string
	file     *os.File
	dev, ino uint64
}

// storeLimit is how many sockets the store holds at most: enough for the main generation and the generation before.
const storeLimit = 2 * sdnotify.MostSockets

func newStore(files []*os.File) *store {
	s := new(store)
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
	if err := unix.Fstat(int(sys.FD(f)), &st); err != nil || len(s.all) >= storeLimit {
		f.Close()
		return nil, ""
	}
	k := kept{name, f, uint64(st.Dev), st.Ino}
	if i := slices.IndexFunc(s.all, func(o kept) bool { return o.dev == k.dev && o.ino == k.ino }); i >= 0 {
		f.Close()
		held, before = &s.all[i], s.all[i].name
		if strings.HasPrefix(name, sdnotify.StorePrefix) && strings.HasPrefix(before, sdnotify.StorePrefix) {
			held.name = name // the same address, spelled in another way
		}
		return held, before
	}
	s.all = append(s.all, k)
	return &s.all[len(s.all)-1], ""
}

func (s *store) remove(name string) {
	s.all = slices.DeleteFunc(s.all, func(k kept) bool {
		if k.name == name {
			k.file.Close()
		}
		return k.name == name
	})
}

func (s *store) close() {
	for _, k := range s.all {
		k.file.Close()
	}
	s.all = nil
}
