package supervisor

import (
	"os"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// inbox is the supervisor's end of the channel of a process. A goroutine only reports to the supervisor's loop that messages
// can be read. The loop reads the messages itself, so that it has all messages of a process before it handles the end of the
// process.
type inbox struct {
	file  *os.File
	buf   []byte        // for next
	oob   []byte        // for next: descriptors
	read  chan struct{} // the loop sends a value when it has read all messages that waited
	ended atomic.Bool   // the other end is closed
	quit  chan struct{} // closed by close
	done  chan struct{} // closed when the goroutine has ended
}

// newInbox takes over the file.
func newInbox(file *os.File) *inbox {
	return &inbox{
		file: file, buf: make([]byte, 8<<10), oob: make([]byte, unix.CmsgSpace(64*4)),
		read: make(chan struct{}), quit: make(chan struct{}), done: make(chan struct{}),
	}
}

// await waits until there is something to read. It returns false if one end of the channel was closed: no message can come any
// more.
func (b *inbox) await() bool {
	raw, err := b.file.SyscallConn()
	return err == nil && !b.ended.Load() && raw.Read(sys.HasInput) == nil
}

// answer tells the goroutine that the loop has read everything, so the goroutine waits for more. If the goroutine has ended,
// answer does nothing.
func (b *inbox) answer() {
	select {
	case b.read <- struct{}{}:
	case <-b.done:
	}
}

// answered waits for a call of answer or of close. It reports whether answer was called.
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

// next takes the next message, and returns false if no message waits.
func (b *inbox) next() (sdnotify.Message, bool) {
	for closed := false; ; {
		n, oobn, _, _, err := unix.Recvmsg(int(sys.FD(b.file)), b.buf, b.oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNRESET { // after ECONNRESET the last messages of the peer can still be read
			continue
		}
		if err == nil && n == 0 && oobn == 0 {
			if !closed { // a last message may come after the first report of the end, see sys.ReadMsg
				closed = true
				continue
			}
			b.ended.Store(true)
		}
		if err != nil || b.ended.Load() {
			return sdnotify.Message{}, false
		}
		return sdnotify.ParseMessage(b.buf[:n], b.oob[:oobn]), true
	}
}

// send sends a message with files to the process, and does not wait. The caller still has to close the files.
func (b *inbox) send(files []*os.File, lines ...string) error { return send(b.file, files, lines...) }

func send(channel *os.File, files []*os.File, lines ...string) error {
	defer runtime.KeepAlive(files)
	text := []byte(strings.Join(lines, "\n"))
	return unix.Sendmsg(int(sys.FD(channel)), text, sys.Rights(files), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}
