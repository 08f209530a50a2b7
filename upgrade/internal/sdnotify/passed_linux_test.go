package sdnotify

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
)

// startedWith returns the notifier of a process that the supervisor has started with sockets. The function supervisor does what
// the supervisor would do.
func startedWith(t *testing.T, sockets int, supervisor func(c *net.UnixConn)) *Notifier {
	t.Helper()
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.FileConn(theirs)
	if err := errors.Join(err, theirs.Close()); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		supervisor(c.(*net.UnixConn))
	}()
	n := blank(slog.New(slog.DiscardHandler))
	n.manager = ownSupervisor
	go n.run() // ends with Close
	if err := n.attach(ours, sockets); err != nil {
		t.Fatal(err)
	}
	<-done
	t.Cleanup(func() { n.Close(); c.Close() })
	return n
}

func socketsText(names ...string) string {
	return WordSockets + "\n" + WordName + strings.Join(names, "\n"+WordName)
}

// The process gets as many sockets as were announced, under their names. It asks for each further message when it has received
// the message before.
func TestSocketsOfTheSupervisorAreTaken(t *testing.T) {
	before := len(testutil.OpenFDs())
	n := startedWith(t, 5, func(c *net.UnixConn) {
		for i, names := range [][]string{{"a", "b"}, {"c"}, {"d", "e"}} {
			if i > 0 {
				if got := read(t, c); got != WordReceived {
					t.Errorf("before message %d it says %q", i, got)
				}
			}
			tell(t, c, len(names), socketsText(names...))
		}
		tell(t, c, 0, WordConfirmed) // a message after the sockets is delivered by Heard
	})
	files, err := n.TakePassed()
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
		f.Close()
	}
	if err != nil || !slices.Equal(names, []string{"a", "b", "c", "d", "e"}) {
		t.Errorf("%q, %v", names, err)
	}
	if again, err := n.TakePassed(); len(again) != 0 || err != nil {
		t.Errorf("a second time: %d, %v", len(again), err)
	}
	if m := <-n.Heard(); !m.Has(WordConfirmed) {
		t.Errorf("%q", m.Lines)
	}
	if now := len(testutil.OpenFDs()); now > before+2 { // the two ends of the channel
		t.Errorf("%d descriptors are open, and were %d before", now, before)
	}
}

// If a socket is missing, or if there is one too many, the error has both counts, and no socket is taken.
func TestMissingSocketIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		files int
		text  string
		want  string
	}{
		"no room for one": {1, socketsText("a", "b"), "1 of 2 have come: raise the limit of open files"},
		"one too many":    {2, socketsText("a"), "2 of 1 have come"},
		"no names":        {1, WordSockets, "of another kind"},
	} {
		before := len(testutil.OpenFDs())
		n := startedWith(t, 2, func(to *net.UnixConn) { tell(t, to, c.files, c.text) })
		files, err := n.TakePassed()
		if len(files) != 0 || err == nil || !strings.Contains(err.Error(), "the sockets that the supervisor holds: "+c.want) && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d, %v", name, len(files), err)
		}
		if now := len(testutil.OpenFDs()); now > before+2 {
			t.Errorf("%s: %d descriptors are open, and were %d before", name, now, before)
		}
	}
	n := startedWith(t, 2, func(to *net.UnixConn) {
		for range 20 { // more messages than the process accepts between the sockets
			tell(t, to, 1, WordOrphan)
		}
	})
	if files, err := n.TakePassed(); len(files) != 0 || err == nil || !strings.Contains(err.Error(), "of another kind") {
		t.Errorf("something else: %d, %v", len(files), err)
	}
	n = startedWith(t, 2, func(to *net.UnixConn) { tell(t, to, 1, socketsText("a")); read(t, to); to.Close() })
	if files, err := n.TakePassed(); len(files) != 0 || err == nil {
		t.Errorf("the supervisor dies: %d, %v", len(files), err)
	}
}

// Messages about orphans that come between the sockets are delivered by Heard afterwards.
func TestOrphanAmongTheSocketsIsHeard(t *testing.T) {
	n := startedWith(t, 2, func(c *net.UnixConn) {
		tell(t, c, 1, WordOrphan+"\n"+WordPID+"7")
		tell(t, c, 1, socketsText("a"))
		read(t, c)
		tell(t, c, 1, WordOrphan+"\n"+WordPID+"8")
		tell(t, c, 1, socketsText("b"))
		tell(t, c, 0, WordConfirmed)
	})
	files, err := n.TakePassed()
	Message{Files: files}.Close()
	if err != nil || len(files) != 2 {
		t.Errorf("%d, %v", len(files), err)
	}
	for _, want := range []string{WordPID + "7", WordPID + "8", WordConfirmed} {
		m := <-n.Heard()
		if m.Close(); !m.Has(want) {
			t.Errorf("%q, want %q", m.Lines, want)
		}
	}
}

// A message has room for the greatest number of sockets, with the longest names that SocketsText allows.
func TestMostSocketsFitIntoAMessage(t *testing.T) {
	var names []string
	for i := range sys.MaxFiles {
		names = append(names, fmt.Sprint(i, strings.Repeat("x", SocketsText/sys.MaxFiles-3)))
	}
	n := startedWith(t, sys.MaxFiles, func(c *net.UnixConn) { tell(t, c, sys.MaxFiles, socketsText(names...)) })
	files, err := n.TakePassed()
	if err != nil || len(files) != sys.MaxFiles || files[sys.MaxFiles-1].Name() != names[sys.MaxFiles-1] {
		t.Errorf("%d, %v", len(files), err)
	}
	for _, f := range files {
		f.Close()
	}
}

// A process that waits for its sockets may receive any text with any descriptors. Nothing panics or hangs, and no descriptor
// stays open. The process takes either at least as many sockets as were announced, or none.
func FuzzSockets(f *testing.F) {
	for _, text := range []string{socketsText("a"), socketsText("a") + "\n\n" + socketsText("b", "c"), WordSuccessor, WordSockets, "\n=\n\x00"} {
		f.Add(uint8(1), text, uint8(1))
		f.Add(uint8(3), text, uint8(2))
	}
	f.Fuzz(func(t *testing.T, total uint8, said string, nfiles uint8) {
		before := len(testutil.OpenFDs())
		n := startedWith(t, int(total%5), func(c *net.UnixConn) {
			for text := range strings.SplitSeq(said, "\n\n") {
				if len(text) > 0 {
					_, _, _ = c.WriteMsgUnix([]byte(text), rightsOf(int(nfiles%6)), nil) // fails if n is closed
				}
			}
			c.CloseWrite()
		})
		files, err := n.TakePassed()
		if (err == nil) != (len(files) >= int(total%5)) || err != nil && len(files) > 0 {
			t.Errorf("%d of %d, %v", len(files), total%5, err)
		}
		for _, file := range files {
			file.Close()
		}
		n.Close()
		if now := len(testutil.OpenFDs()); now > before+1 {
			t.Errorf("%d descriptors are open, and were %d before", now, before)
		}
	})
}
