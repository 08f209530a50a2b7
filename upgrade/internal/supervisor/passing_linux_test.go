package supervisor

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// received reads a message with sockets, and returns the names in it. There must be as many descriptors as names.
func received(t *testing.T, channel *os.File) []string {
	t.Helper()
	buf, oob := make([]byte, 1<<20), make([]byte, unix.CmsgSpace(300*4))
	n, oobn, flags, _, err := unix.Recvmsg(int(sys.FD(channel)), buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil
	}
	m := sdnotify.ParseMessage(buf[:n], oob[:oobn])
	defer m.Close()
	names := m.Values(sdnotify.WordName)
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || !m.Has(sdnotify.WordSockets) || len(names) != len(m.Files) {
		t.Errorf("%d names, %d descriptors, flags %#x", len(names), len(m.Files), flags)
	}
	return names
}

// A process gets all held sockets, in messages that fit into the limits of the kernel and of the reader. Each message is sent
// only after the process has received the message before.
func TestSocketsArePassedOneMessageAtATime(t *testing.T) {
	for name, c := range map[string]struct{ sockets, long, messages int }{
		"none": {0, 0, 0}, "a few": {3, 10, 1}, "as many as fit": {sys.MaxFiles, 10, 1}, "one more": {sys.MaxFiles + 1, 10, 2},
		"long names": {600, 250, 4}, "all that are held at most": {storeLimit, 60, 65},
	} {
		s := idle(t)
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		var held []kept
		for i := range c.sockets {
			held = append(held, kept{name: fmt.Sprint(i, ".", strings.Repeat("x", max(0, c.long-len(fmt.Sprint(i, "."))))), file: null})
		}
		g, channel := s.self(t)
		p, err := queue(g.inbox.file, held)
		if err != nil || p.total != c.sockets {
			t.Fatalf("%s: %d, %v", name, p.total, err)
		}
		g.passing = p
		got, messages := 0, 0
		for names := received(t, channel); len(names) > 0; names = received(t, channel) {
			if !strings.HasPrefix(names[0], fmt.Sprint(got, ".")) {
				t.Errorf("%s: message %d begins with %.10s, want %d", name, messages, names[0], got)
			}
			got += len(names)
			messages++
			if more := received(t, channel); more != nil {
				t.Errorf("%s: %d more come unasked", name, len(more))
			}
			speak(t, channel, nil, sdnotify.WordReceived)
			s.receive()
		}
		if got != c.sockets || messages != c.messages {
			t.Errorf("%s: %d sockets in %d messages, want %d in %d", name, got, messages, c.sockets, c.messages)
		}
	}
}

// A process that cannot get the rest of the sockets is killed: it would serve only some of the sockets.
func TestProcessWithoutItsSocketsIsEnded(t *testing.T) {
	s := idle(t)
	g, channel := s.generationOf(t, childOf(t))
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	g.passing = &passing{rest: []kept{{name: "x", file: closed}}, total: 2}
	speak(t, channel, nil, sdnotify.WordReceived)
	s.receive()
	if died := <-s.procs.deaths; died != g {
		t.Error("another one has died")
	}
}
