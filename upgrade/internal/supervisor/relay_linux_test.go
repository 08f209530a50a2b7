package supervisor

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// managed gives the supervisor a service manager, and returns a function that returns the next messages to the manager.
func (s *supervisor) managed(t *testing.T) (received func(n int) []string) {
	t.Helper()
	addr := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	manager, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(sdnotify.NotifyEnv, addr.Name)
	s.manager.up = sdnotify.New(s.log)
	t.Cleanup(func() { s.manager.up.Close(); manager.Close() })
	return func(n int) (all []string) {
		t.Helper()
		s.manager.up.Settle()
		buf, oob := make([]byte, 1024), make([]byte, unix.CmsgSpace(4))
		for range n {
			if err := manager.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			size, oobn, _, _, err := manager.ReadMsgUnix(buf, oob)
			if err != nil {
				t.Fatalf("after %q: %v", all, err)
			}
			m := sdnotify.ParseMessage(buf[:size], oob[:oobn])
			text := strings.Join(m.Lines, " ")
			if len(m.Files) > 0 {
				text += " +fd"
			}
			m.Close()
			all = append(all, text)
		}
		return all
	}
}

// The service manager stores each socket once, under its present name, and stores no socket of a socket unit. If a generation
// closes a socket, the manager removes its copy too, except during a stop.
func TestStoreOfTheManagerFollows(t *testing.T) {
	s := idle(t)
	received := s.managed(t)
	unit := listeningFile(t, "web")
	s.store = newStore([]*os.File{unit})
	s.manager.store = s.store
	t.Cleanup(s.store.close)
	first := listeningFile(t, "x")
	again := func(f *os.File) *os.File {
		t.Helper()
		d, err := sys.DupFile(f)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	keep := func(name string, f *os.File) {
		s.manager.keep(&sdnotify.Message{Lines: []string{sdnotify.WordStore, sdnotify.WordName + name}, Files: []*os.File{f}})
	}
	renamed := again(first)
	keep("midair.a", first)
	keep("midair.a", again(renamed)) // the manager has this socket
	keep("midair.web", again(unit))  // the manager has the socket of a socket unit
	keep("midair.b", renamed)        // the address is spelled in another way
	s.manager.drop("midair.b", false)
	s.manager.drop("midair.c", true)
	s.manager.up.Say("end")
	want := []string{
		"FDSTORE=1 FDNAME=midair.a FDPOLL=0 +fd",
		"FDSTOREREMOVE=1 FDNAME=midair.a", "FDSTORE=1 FDNAME=midair.b FDPOLL=0 +fd",
		"FDSTOREREMOVE=1 FDNAME=midair.b", "end",
	}
	if got := received(len(want)); !slices.Equal(got, want) {
		t.Errorf("the manager received\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// If a socket came from the manager's store at the start, and its address is now spelled in another way, the manager stores
// it under the new name only.
func TestSocketOfTheManagersStoreIsRenamedThere(t *testing.T) {
	s := idle(t)
	received := s.managed(t)
	f := listeningFile(t, "midair.a")
	again, err := sys.DupFile(f)
	if err != nil {
		t.Fatal(err)
	}
	s.store = newStore([]*os.File{f})
	s.manager.store = s.store
	t.Cleanup(s.store.close)
	s.manager.keep(&sdnotify.Message{Lines: []string{sdnotify.WordStore, sdnotify.WordName + "midair.b"}, Files: []*os.File{again}})
	s.manager.up.Say("end")
	want := []string{"FDSTOREREMOVE=1 FDNAME=midair.a", "FDSTORE=1 FDNAME=midair.b FDPOLL=0 +fd", "end"}
	if got := received(len(want)); !slices.Equal(got, want) {
		t.Errorf("the manager received %q, want %q", got, want)
	}
}

// If the program is a command that the manager runs besides the service, the supervisor of this command does not send
// STOPPING=1.
func TestCommandIsNoStop(t *testing.T) {
	s := idle(t)
	received := s.managed(t)
	s.finish(0)
	s.manager.up.Say("end")
	if got := received(1); got[0] != "end" {
		t.Errorf("the manager received %q", got)
	}
}

// The service manager receives only lines that mean the same for the supervisor and for a generation. The lines of one message
// stay in one message. The manager receives neither pids nor lines with words of this library.
func TestOnlyWhatMeansTheSameIsPassedOn(t *testing.T) {
	s := idle(t)
	received := s.managed(t)
	for _, lines := range []string{
		"RELOADING=1\nMONOTONIC_USEC=7\nEXTEND_TIMEOUT_USEC=8\nSTATUS=s", "READY=1\nMAINPID=9\nSTATUS=t\nX_MIDAIR_GENERATION=2\nX_MIDAIR_VERSION=v",
		"X_MIDAIR_HANDED_OVER=1", "MAINPID=9", "ERRNO=2", "WATCHDOG=1", "STOPPING=1\nSTATUS=u", "WATCHDOG=trigger",
	} {
		s.manager.relay(&sdnotify.Message{Lines: strings.Split(lines, "\n")})
	}
	s.manager.up.Say("end")
	want := []string{"RELOADING=1 MONOTONIC_USEC=7 EXTEND_TIMEOUT_USEC=8 STATUS=s", "READY=1 STATUS=t", "WATCHDOG=1", "STOPPING=1 STATUS=u", "end"}
	if got := received(len(want)); !slices.Equal(got, want) {
		t.Errorf("the manager received\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
