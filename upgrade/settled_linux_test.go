package upgrade

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// startManager starts a service manager that reads everything, and gives it to a generation. The manager has kept a listener
// that this version does not open. The returned client waits in the queue of that listener, and ln has the same address.
func startManager(t *testing.T, g *generation) (client net.Conn, ln net.Listener) {
	t.Helper()
	addr := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	manager, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, manager) }() // ends with the socket
	t.Setenv(sdnotify.NotifyEnv, addr.Name)
	g.estate.manager = sdnotify.New(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { g.estate.manager.Close(); manager.Close() })
	reuse := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	kept, err := reuse.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	if client, err = net.Dial("tcp", kept.Addr().String()); err != nil {
		t.Fatal(err)
	}
	g.estate.listeners.Configure(reuse)
	if ln, err = g.estate.listeners.Listen("tcp", kept.Addr().String(), false); err != nil {
		t.Fatal(err)
	}
	file, err := kept.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	g.announcer.passed = &sdnotify.Activation{Files: []*os.File{named(t, file, "midair.listener.tcp.old")}}
	t.Cleanup(func() { client.Close(); ln.Close(); g.estate.listeners.ReleaseAll() })
	return client, ln
}

// named returns a duplicate of a file under another name.
func named(t *testing.T, file *os.File, name string) *os.File {
	t.Helper()
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), name)
}

// An attempt that begins during the telling of a commit waits for the telling that follows it as well: only the main generation
// takes the clients from the queues of the sockets that the service manager has forgotten.
func TestAttemptWaitsForTheSecondTelling(t *testing.T) {
	var log bytes.Buffer
	g, end := inState(t, genCommitting, &log)
	defer end()
	client, ln := startManager(t, g)
	g.fire(onTaken, detail{})
	g.fire(onWritten, detail{telling: <-g.tellings.written})
	g.begin(newAttempt(t.Context(), g.parts, modeUpgrade), nil)
	first := <-g.tellings.ended
	l, sending, read := stuckLink(t)
	g.opts.MaxGenerations = 1
	g.history.elders.add(&elder{link: l}) // the second telling cannot tell this process to hurry
	g.hasTold(first)
	<-sending
	select {
	case end := <-g.attemptEnded:
		t.Errorf("the attempt did not wait: %v", end.err)
		g.attempt, g.state = nil, genHandedOver // as after its commit
	case <-time.After(300 * time.Millisecond):
	}
	read()
	g.hasTold(<-g.tellings.ended)
	if got, err := acceptWithin(ln, 5*time.Second); err != nil {
		t.Errorf("the client in the queue of the forgotten listener is not accepted: %v", err)
	} else if got.RemoteAddr().String() != client.LocalAddr().String() {
		t.Errorf("accepted %v, want %v", got.RemoteAddr(), client.LocalAddr())
	}
}

func acceptWithin(ln net.Listener, limit time.Duration) (net.Conn, error) {
	if err := ln.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	c, err := ln.Accept()
	if err == nil {
		c.Close()
	}
	return c, err
}
