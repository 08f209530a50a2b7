//go:build linux

package sdnotify

import (
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// Every word that a generation has to say arrives as the service manager expects it; the words that systemd has no use for
// go to the supervisor of this library only.
func TestWordsOfTheProtocol(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		name       string
		say        func(n *Notifier)
		systemd    []string // empty: nothing is said
		supervisor []string
	}{
		{"ready", func(n *Notifier) { n.Ready(3, "v1", "serving\nall") },
			[]string{"READY=1", "MAINPID=" + pid, "STATUS=serving all"},
			[]string{"READY=1", "MAINPID=" + pid, "STATUS=serving all", "X_MIDAIR_GENERATION=3", "X_MIDAIR_VERSION=v1"}},
		{"ready for another", func(n *Notifier) { n.ReadyFor(42, "serving") }, []string{"READY=1", "MAINPID=42", "STATUS=serving"}, nil},
		{"extend", (*Notifier).Extend, []string{"EXTEND_TIMEOUT_USEC=30000000"}, nil},
		{"alive", (*Notifier).Alive, []string{"WATCHDOG=1"}, nil},
		{"forget", func(n *Notifier) { n.Forget("x") }, []string{"FDSTOREREMOVE=1\nFDNAME=x"}, nil},
		{"introduce", func(n *Notifier) { n.Introduce("v 2") }, []string{}, []string{"X_MIDAIR_CANDIDATE=1", "X_MIDAIR_VERSION=v 2"}},
		{"handed over", (*Notifier).HandedOver, []string{}, []string{"X_MIDAIR_HANDED_OVER=1"}},
		{"remove what is not kept", func(n *Notifier) { n.Remove("x") }, []string{}, nil},
	} {
		for _, by := range []string{"", strconv.Itoa(os.Getppid())} {
			m := manager(t)
			t.Setenv(SupervisorEnv, by)
			n := New(slog.New(slog.DiscardHandler))
			c.say(n)
			n.Say("END=1")
			want := c.systemd
			if by != "" && c.supervisor != nil {
				want = c.supervisor
			}
			wantText := strings.Join(append(slices.Clip(want), "END=1"), "\n")
			got := read(t, m)
			if len(want) > 0 {
				got += "\n" + read(t, m)
			}
			if got != wantText {
				t.Errorf("%s, supervisor %q: %q, want %q", c.name, by, got, wantText)
			}
			n.Close()
		}
	}
}

// An upgrade says when it begins by the clock that systemd compares with, and asks for time.
func TestReloadingHasTheTime(t *testing.T) {
	m := manager(t)
	n := New(slog.New(slog.DiscardHandler))
	defer n.Close()
	before := monotonicMicros()
	n.Reloading("upgrade to\nv2")
	lines := strings.Split(read(t, m), "\n")
	at, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "MONOTONIC_USEC="), 10, 64)
	if err != nil || at < before || at > monotonicMicros() {
		t.Errorf("%q, %v, not before %d", lines[1], err, before)
	}
	lines[1] = "the time"
	if want := []string{"RELOADING=1", "the time", "EXTEND_TIMEOUT_USEC=30000000", "STATUS=upgrade to v2"}; !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}
}

// Stopping drops every socket that is kept, once, and Names lists those that are.
func TestStoppingDropsWhatIsKept(t *testing.T) {
	m := manager(t)
	n := New(slog.New(slog.DiscardHandler))
	defer n.Close()
	for _, name := range []string{"a", "b", "a", "c"} {
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		n.Store(name, null)
		read(t, m)
	}
	if n.Remove("b"); read(t, m) != "FDSTOREREMOVE=1\nFDNAME=b" || !slices.Equal(n.Names(), []string{"a", "c"}) {
		t.Errorf("%q are kept", n.Names())
	}
	n.Stopping("told to")
	for _, want := range []string{"STOPPING=1\nSTATUS=stopping: told to", "FDSTOREREMOVE=1\nFDNAME=a", "FDSTOREREMOVE=1\nFDNAME=c"} {
		if got := read(t, m); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if len(n.Names()) > 0 {
		t.Errorf("%q are kept", n.Names())
	}
}

// Settle returns when everything that was said before has been sent.
func TestSettleWaitsForWhatWasSaid(t *testing.T) {
	m := manager(t)
	n := New(slog.New(slog.DiscardHandler))
	defer n.Close()
	n.Say("A=1")
	n.Settle()
	if err := m.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	left := len(n.queue)
	n.mu.Unlock()
	if got := read(t, m); got != "A=1" || left != 0 {
		t.Errorf("%q, and %d are left", got, left)
	}
}

// A nil notifier has nobody to talk to, whatever is said, and closes the file that it is to store.
func TestNilNotifierTakesEveryWord(t *testing.T) {
	var n *Notifier
	n.Say("A=1")
	n.Ready(1, "v1", "")
	n.ReadyFor(1, "")
	n.Reloading("")
	n.Introduce("v1")
	n.HandedOver()
	n.Extend()
	n.Alive()
	n.Forget("x")
	n.Remove("x")
	n.Stopping("")
	n.Settle()
	n.Close()
	before := testutil.OpenFDs()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	n.Store("x", null)
	if now := testutil.OpenFDs(); len(now) != len(before) || n.Names() != nil || n.WatchdogEvery() != 0 {
		t.Errorf("open descriptors: %q, before: %q", now, before)
	}
	if env := n.Environ([]string{"A=1"}); !slices.Equal(env, []string{"A=1"}) {
		t.Errorf("%q", env)
	}
}

// TakeFile takes a file by its name, once, and nil is no file.
func TestFileIsTakenOnce(t *testing.T) {
	a := &Activation{Files: []*os.File{os.NewFile(1<<20, "a"), os.NewFile(1<<20, "b")}} // of no descriptor
	want := a.Files[1]
	if got := a.TakeFile("b"); got != want || a.TakeFile("b") != nil || a.TakeFile("c") != nil || len(a.Files) != 1 {
		t.Errorf("%v, %d are left", got, len(a.Files))
	}
}
