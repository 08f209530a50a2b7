//go:build linux

package sdnotify

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/internal/testutil"
	"golang.org/x/sys/unix"
)

// Each message of a generation arrives in the form that the service manager expects. The messages that systemd does not know go
// only to the supervisor of this library.
func TestWordsOfTheProtocol(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		name       string
		say        func(n *Notifier)
		systemd    []string // the expected lines; empty: no message is sent
		supervisor []string
	}{
		{"ready", func(n *Notifier) { n.Ready(3, "v1", "serving\nall") },
			[]string{"READY=1", "MAINPID=" + pid, "STATUS=serving all"},
			[]string{"READY=1", "MAINPID=" + pid, "STATUS=serving all", "X_MIDAIR_GENERATION=3", "X_MIDAIR_VERSION=v1"}},
		{"ready for another", func(n *Notifier) { n.ReadyFor(42, "serving") }, []string{"READY=1", "MAINPID=42", "STATUS=serving"}, nil},
		{"extend", (*Notifier).Extend, []string{"EXTEND_TIMEOUT_USEC=30000000"}, nil},
		{"alive", (*Notifier).Alive, []string{"WATCHDOG=1"}, nil},
		{"forget", func(n *Notifier) { n.Forget("x") }, []string{"FDSTOREREMOVE=1\nFDNAME=x"}, nil},
		{"handed over", (*Notifier).HandedOver, []string{}, []string{"X_MIDAIR_HANDED_OVER=1"}},
		{"committing", func(n *Notifier) { _ = n.Committing() }, []string{}, []string{"X_MIDAIR_COMMITTING=1"}},
		{"remove what is not kept", func(n *Notifier) { n.Remove("x") }, []string{}, nil},
	} {
		for _, supervised := range []bool{false, true} {
			m, n := manager(t), (*Notifier)(nil)
			if supervised {
				n, m = supervisedBy(t)
			} else {
				n = New(slog.New(slog.DiscardHandler))
			}
			c.say(n)
			n.Say("END=1")
			want := c.systemd
			if supervised && c.supervisor != nil {
				want = c.supervisor
			}
			wantText := strings.Join(append(slices.Clip(want), "END=1"), "\n")
			got := read(t, m)
			if len(want) > 0 {
				got += "\n" + read(t, m)
			}
			if got != wantText {
				t.Errorf("%s, supervised %v: %q, want %q", c.name, supervised, got, wantText)
			}
			n.Close()
		}
	}
}

// supervisedBy returns the notifier of a candidate, which has its channel, and the supervisor's end of the channel.
func supervisedBy(t *testing.T) (*Notifier, *net.UnixConn) {
	t.Helper()
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	n := blank(slog.New(slog.DiscardHandler))
	n.manager = ownSupervisor
	go n.run() // ends with Close
	if err := n.Attach(ours); err != nil {
		t.Fatal(err)
	}
	c, err := net.FileConn(theirs)
	if err := errors.Join(err, theirs.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(); c.Close() })
	return n, c.(*net.UnixConn)
}

// Messages of a candidate wait until the candidate has its channel, and then are sent in order. If the candidate never gets a
// channel, Settle and Close return nevertheless.
func TestWordsWaitForTheChannel(t *testing.T) {
	for _, comes := range []bool{true, false} {
		ours, theirs, err := sys.SocketPair()
		if err != nil {
			t.Fatal(err)
		}
		n := blank(slog.New(slog.DiscardHandler))
		n.manager = ownSupervisor
		go n.run() // ends with Close
		n.Say("A=1")
		n.Say("B=1")
		n.Settle()
		if !comes {
			n.Close()
			ours.Close()
			theirs.Close()
			continue
		}
		if err := n.Attach(ours); err != nil {
			t.Fatal(err)
		}
		n.Settle()
		c, err := net.FileConn(theirs)
		if err := errors.Join(err, theirs.Close()); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"A=1", "B=1"} {
			if got := read(t, c.(*net.UnixConn)); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		if n.SupervisorState() != "alive" || !n.Supervised() {
			t.Error("the supervisor is dead, it says")
		}
		c.Close()
		if n.SupervisorState() != "dead" || n.Supervised() || slices.Contains(n.Environ(nil), SupervisedEnv+"=1") {
			t.Error("the supervisor lives, it says")
		}
		if _, err := n.Announce(candidateOf(t)); err != nil {
			t.Errorf("nobody is there to be told: %v", err)
		}
		n.Close()
	}
}

// Every generation after the death of the supervisor knows that the supervisor is dead, and its messages do not wait for a
// channel.
func TestDeathOfTheSupervisorIsPassedOn(t *testing.T) {
	n, c := supervisedBy(t)
	c.Close()
	t.Setenv(process.Sentinel, "yes")
	for generation := range 2 {
		env := n.Environ(nil)
		if !slices.Contains(env, SupervisedEnv+"=dead") || slices.Contains(env, SupervisedEnv+"=1") {
			t.Errorf("generation %d is told %q", generation, env)
		}
		t.Setenv(SupervisedEnv, "dead")
		n = New(slog.New(slog.DiscardHandler))
		n.Say("A=1")
		if n.SupervisorState() != "dead" || n.Supervised() || len(n.queue) > 0 || os.Getenv(SupervisedEnv) != "" {
			t.Errorf("generation %d: the supervisor is %q, %d words wait", generation, n.SupervisorState(), len(n.queue))
		}
		n.Close()
	}
}

// candidateOf returns a Candidate with open files, which Announce closes.
func candidateOf(t *testing.T) (c Candidate) {
	t.Helper()
	for _, f := range []**os.File{&c.PIDFD, &c.Exe, &c.Args} {
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		*f = null
	}
	return c
}

// An announcement is one message with four descriptors. When Announce returns, the message is in the channel, so the supervisor
// receives it even if this process dies. Announce returns the candidate's end of a channel, and the announcement carries the
// other end.
func TestAnnouncementOutlivesItsProcess(t *testing.T) {
	before := len(testutil.OpenFDs())
	n, supervisor := supervisedBy(t)
	c := candidateOf(t)
	c.PID = 42
	end, err := n.Announce(c)
	if err != nil {
		t.Fatal(err)
	}
	n.Close() // has the same effect as the death of the process
	buf, oob := make([]byte, 100), make([]byte, unix.CmsgSpace(8*4))
	size, oobn, _, _, err := supervisor.ReadMsgUnix(buf, oob)
	if err != nil || string(buf[:size]) != WordCandidate+"\nMAINPID=42" {
		t.Fatalf("%q, %v", buf[:size], err)
	}
	files, err := sys.ReceivedFiles(oob[:oobn])
	if err != nil || len(files) != 4 {
		t.Fatalf("%d descriptors, %v", len(files), err)
	}
	if _, err := end.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if size, err := files[1].Read(buf); err != nil || string(buf[:size]) != "hello" {
		t.Errorf("%q, %v", buf[:size], err)
	}
	end.Close()
	for _, f := range files {
		f.Close()
	}
	supervisor.Close()
	if after := len(testutil.OpenFDs()); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// Without a supervisor, Announce only closes the files of the candidate.
func TestNobodyToAnnounceTo(t *testing.T) {
	c := candidateOf(t)
	if end, err := (*Notifier)(nil).Announce(c); end != nil || err != nil {
		t.Errorf("%v, %v", end, err)
	}
	for _, f := range []*os.File{c.PIDFD, c.Exe, c.Args} {
		if f.Close() == nil {
			t.Error("it was open")
		}
	}
}

// A descriptor counts as the channel of this process only if the parent of this process has made it, whatever the environment
// contains.
func TestChannelIsThatOfTheParent(t *testing.T) {
	a, b, err := sys.SocketPair() // this process has made the sockets, and not its parent
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	for _, fd := range []string{strconv.Itoa(int(sys.FD(a))), "0", "-1", "999", "", "x"} {
		t.Setenv(ChannelEnv, fd)
		if channelFD() >= 0 || IsSupervised() {
			t.Errorf("%q is a channel", fd)
		}
	}
	t.Setenv(formerEnv, "1")
	t.Setenv(NotifyEnv, "@midair-FORMER")
	if err := CheckFormer(); err == nil || !strings.Contains(err.Error(), "stop the service and start it") {
		t.Errorf("%v", err)
	}
}

// Reloading sends the time of the clock that systemd uses, and asks for more time.
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

// Names lists the sockets that the manager keeps. At the end of the service they stay with systemd, which drops them, or passes
// them to the next start.
func TestStoppingLeavesWhatIsKeptToSystemd(t *testing.T) {
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
	if got := read(t, m); got != "STOPPING=1\nSTATUS=stopping: told to" {
		t.Errorf("%q", got)
	}
	n.Say("the end")
	if got := read(t, m); got != "the end" || !slices.Equal(n.Names(), []string{"a", "c"}) {
		t.Errorf("%q, and %q are kept", got, n.Names())
	}
}

// Settle returns when all messages from before the call are sent.
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

// All methods of a nil Notifier may be called, and send nothing. Store closes its file.
func TestNilNotifierTakesEveryWord(t *testing.T) {
	var n *Notifier
	n.Say("A=1")
	n.Ready(1, "v1", "")
	n.ReadyFor(1, "")
	n.Reloading("")
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

// TakeFile returns a file by its name, and only once. If there is no such file, the result is nil.
func TestFileIsTakenOnce(t *testing.T) {
	a := &Activation{Files: []*os.File{os.NewFile(1<<20, "a"), os.NewFile(1<<20, "b")}} // no such descriptors are open
	want := a.Files[1]
	if got := a.TakeFile("b"); got != want || a.TakeFile("b") != nil || a.TakeFile("c") != nil || !slices.Equal(a.names(), []string{"a"}) {
		t.Errorf("%v, %q are left", got, a.names())
	}
}
