package supervisor

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// inbox is the supervisor's end of a generation's channel. A goroutine says when there is something to read; the supervisor
// reads all of it itself, so that what a process has sent before its end is known when its end is.
type inbox struct {
	file  *os.File
	read  chan struct{} // the answer to a generation that has spoken
	ended atomic.Bool   // nobody has the other end any more
	quit  chan struct{}
	done  chan struct{}
}

// newInbox takes over the file.
func newInbox(file *os.File) *inbox {
	return &inbox{file: file, read: make(chan struct{}), quit: make(chan struct{}), done: make(chan struct{})}
}

// await waits until there is something to read, and reports whether there may be more.
func (b *inbox) await() bool {
	raw, err := b.file.SyscallConn()
	return err == nil && !b.ended.Load() && raw.Read(sys.HasInput) == nil
}

// answer lets the goroutine that has said that there is something to read look again. The inbox may be closed by now.
func (b *inbox) answer() {
	select {
	case b.read <- struct{}{}:
	case <-b.done:
	}
}

// answered waits for the answer, and reports whether there will be another one.
func (b *inbox) answered() bool {
	select {
	case <-b.read:
		return true
	case <-b.quit:
		return false
	}
}

func (b *inbox) close() {
	close(b.quit)
	b.file.Close()
	<-b.done
}

// next takes one message; there is none in an empty inbox.
func (b *inbox) next() (sdnotify.Message, bool) {
	buf, oob := make([]byte, 8<<10), make([]byte, unix.CmsgSpace(64*4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(int(sys.FD(b.file)), buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNRESET { // Linux says the latter once, before what the peer had sent
			continue
		}
		if err == nil && n == 0 && oobn == 0 {
			b.ended.Store(true)
		}
		if err != nil || b.ended.Load() {
			return sdnotify.Message{}, false
		}
		return sdnotify.ParseMessage(buf[:n], oob[:oobn]), true
	}
}

// send says something to the generation, with files, which stay the caller's. It does not wait.
func (b *inbox) send(files []*os.File, lines ...string) error { return send(b.file, files, lines...) }

func send(channel *os.File, files []*os.File, lines ...string) error {
	defer runtime.KeepAlive(files)
	text := []byte(strings.Join(lines, "\n"))
	return unix.Sendmsg(int(sys.FD(channel)), text, sys.Rights(files), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// store holds descriptors by name for the next process.
type store struct{ all []kept }

type kept struct {
	name     string
	file     *os.File
	dev, ino uint64
}

// storeLimit is what a generation can have, and the one before it beside that.
const storeLimit = 2 * sdnotify.MostSockets

func newStore(files []*os.File) *store {
	s := new(store)
	for _, f := range files {
		s.add(f.Name(), f)
	}
	return s
}

// add takes over the file, and returns nil if there is no room for it. One that is held already is not held twice: it gets the new name,
// unless it is of a socket unit. before is the name that it had until then; empty: it is new.
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
			held.name = name // its address is spelled in another way by now
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
