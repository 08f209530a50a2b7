package supervisor

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"golang.org/x/sys/unix"
)

// sentTo reads the messages that the supervisor has sent on a channel.
func sentTo(t *testing.T, channel *os.File) (m sdnotify.Message) {
	t.Helper()
	buf, oob := make([]byte, 1000), make([]byte, 100)
	n, oobn, _, _, err := unix.Recvmsg(int(sys.FD(channel)), buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	m = sdnotify.ParseMessage(buf[:n], oob[:oobn])
	t.Cleanup(m.Close)
	return m
}

// withOrphan returns a supervisor whose main generation, number 5, has crashed in an upgrade, and the candidate, which has
// reported that it is an orphan.
func withOrphan(t *testing.T) (s *supervisor, orphan *proc, channel *os.File) {
	t.Helper()
	s = idle(t)
	s.main, _ = s.generationOf(t, childOf(t))
	s.serving(t)
	orphan, channel = s.generationOf(t, childOf(t))
	orphan.parent, orphan.number, orphan.state = s.main, 6, candidate
	speak(t, channel, nil, sdnotify.WordOrphan, sdnotify.WordVersion+"bad")
	dead := s.main
	dead.kill()
	if g := <-s.procs.deaths; g != dead {
		t.Fatal("another one has died")
	}
	s.died(dead)
	return s, orphan, channel
}

// The committed build is started at once although an orphan lives. Its process has a greater number than the crashed generation
// and the orphan.
func TestOrphanIsNoHeir(t *testing.T) {
	s, orphan, _ := withOrphan(t)
	if s.recovery.restartAt.IsZero() || !s.recovery.heirsDue.IsZero() || len(s.procs.heirs()) != 0 {
		t.Errorf("restart at %v, heirs have until %v", s.recovery.restartAt, s.recovery.heirsDue)
	}
	if all := s.procs.orphans(); len(all) != 1 || all[0] != orphan || orphan.version != "bad" {
		t.Errorf("orphans: %v", all)
	}
	if got := s.procs.nextNumber(s.recovery.leastNumber()); got != 7 {
		t.Errorf("the committed build gets number %d, want 7", got)
	}
}

// READY of an orphan does not make it the service, even if no other process serves.
func TestClaimOfAnOrphanIsNotBelieved(t *testing.T) {
	s, orphan, channel := withOrphan(t)
	speak(t, channel, nil, sdnotify.WordReady, sdnotify.WordGeneration+"9")
	s.receive()
	if s.main != nil || !orphan.isOrphan() {
		t.Error("it is the main generation")
	}
}

// The main generation and a draining generation do not become orphans by a message.
func TestOnlyACandidateIsAnOrphan(t *testing.T) {
	for name, change := range map[string]func(g *proc){
		"main": func(g *proc) { g.state = serving }, "draining": func(g *proc) { g.state = draining },
	} {
		s := idle(t)
		g, channel := s.self(t)
		change(g)
		speak(t, channel, nil, sdnotify.WordOrphan)
		if s.receive(); g.state == orphan {
			t.Errorf("%s: it is", name)
		}
	}
}

// When the committed build serves, its process and the orphan get the two ends of a socket, and the time in which the orphan
// has to end is limited.
func TestDismissedOrphanMeetsTheMainGeneration(t *testing.T) {
	s, orphan, channel := withOrphan(t)
	m, mainChannel := s.self(t)
	m.number = 7
	speak(t, mainChannel, nil, sdnotify.WordReady)
	s.receive()
	if s.main != m || orphan.state != dismissed || len(s.procs.orphans()) != 0 {
		t.Fatalf("main %v; the orphan is %v", s.main, orphan.state)
	}
	toOrphan, toNew := sentTo(t, channel), sentTo(t, mainChannel)
	if !toOrphan.Has(sdnotify.WordSuccessor) || len(toOrphan.Files) != 1 || len(toNew.Files) != 1 ||
		!toNew.Has(sdnotify.WordOrphan) || toNew.Value(sdnotify.WordGeneration) != "6" || toNew.Value(sdnotify.WordVersion) != "bad" {
		t.Fatalf("the orphan received %q, the main generation %q", toOrphan.Lines, toNew.Lines)
	}
	a, err := net.FileConn(toOrphan.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := toNew.Files[0].Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Read(make([]byte, 10)); n != 1 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if left := time.Until(orphan.endBy); left < s.opts.AbortGrace || s.pause() > left {
		t.Errorf("it has %v to go, and the supervisor sleeps for %v", left, s.pause())
	}
	first := orphan.endBy
	s.tick(first)
	if orphan.state != terminated || !orphan.endBy.After(first) {
		t.Error("it is not told to end before it is killed")
	}
	s.tick(orphan.endBy)
	if g := <-s.procs.deaths; g != orphan {
		t.Error("it does not end")
	}
}

// If the socket cannot be sent to an orphan, the supervisor ends the orphan by a signal.
func TestOrphanThatDoesNotListenIsEnded(t *testing.T) {
	s, orphan, channel := withOrphan(t)
	channel.Close()
	m, mainChannel := s.self(t)
	m.number = 7
	speak(t, mainChannel, nil, sdnotify.WordReady)
	s.receive()
	if s.main != m {
		t.Fatal("the committed build does not serve")
	}
	if g := <-s.procs.deaths; g != orphan {
		t.Error("it lives")
	}
}

// The orphan is confirmed only after two programs of the committed build have ended before they served. Before that, READY of
// the orphan does not count.
func TestOrphanIsConfirmedAfterTwoFailures(t *testing.T) {
	s, orphan, channel := withOrphan(t)
	for n := range mostFailed {
		if !orphan.isOrphan() || s.recovery.restartAt.IsZero() {
			t.Fatalf("after %d failures it is confirmed", n)
		}
		s.recovery.restartAt = time.Time{}
		g, _ := s.generationOf(t, childOf(t))
		s.main = g
		g.kill()
		s.died(<-s.procs.deaths)
	}
	if m := sentTo(t, channel); !m.Has(sdnotify.WordConfirmed) || orphan.state != confirmed || !s.recovery.restartAt.IsZero() || s.recovery.heirsDue.IsZero() {
		t.Fatalf("the orphan received %q, restart at %v, it has until %v", m.Lines, s.recovery.restartAt, s.recovery.heirsDue)
	}
	speak(t, channel, nil, sdnotify.WordReady)
	s.receive()
	if s.main != orphan || s.recovery.outage.failed != 0 {
		t.Errorf("main %v, %d failures", s.main, s.recovery.outage.failed)
	}
}

// The supervisor sends a single message of whole lines, whatever the name of a version contains.
func TestVersionOfAnOrphanAddsNoLine(t *testing.T) {
	s, orphan, _ := withOrphan(t)
	orphan.version = strings.Repeat("v", 7000)
	m, mainChannel := s.self(t)
	m.number = 7
	speak(t, mainChannel, nil, sdnotify.WordReady)
	s.receive()
	if m := sentTo(t, mainChannel); len(m.Lines) != 4 || slices.Contains(m.Lines, sdnotify.WordConfirmed) {
		t.Errorf("%q", m.Lines)
	}
}

// An orphan and the process that is started in its place get a socket before the new process is executed, and no second
// socket when the new process serves.
func TestOrphanMeetsItsSuccessorBeforeTheStart(t *testing.T) {
	s, orphan, channel := withOrphan(t)
	g, mainChannel := s.generationOf(t, childOf(t))
	g.number = s.procs.nextNumber(s.recovery.leastNumber())
	l := &launch{number: g.number, meetings: toMeet(s.procs), log: s.log}
	l.introduce(g.inbox.file)
	for _, o := range l.met {
		o.met = l.number
	}
	toOrphan, toNew := sentTo(t, channel), sentTo(t, mainChannel)
	if !toOrphan.Has(sdnotify.WordSuccessor) || len(toOrphan.Files) != 1 || !toNew.Has(sdnotify.WordOrphan) || len(toNew.Files) != 1 {
		t.Fatalf("the orphan received %q, the new process %q", toOrphan.Lines, toNew.Lines)
	}
	speak(t, mainChannel, nil, sdnotify.WordReady)
	s.receive()
	if s.main != g || orphan.state != dismissed || orphan.endBy.IsZero() {
		t.Fatal("it is not the main generation, or the orphan stays")
	}
	buf := make([]byte, 100)
	if n, _, err := unix.Recvfrom(int(sys.FD(channel)), buf, unix.MSG_DONTWAIT); err == nil {
		t.Errorf("the orphan received %q too", buf[:n])
	}
}

// If a main generation ends before it has sent the commit message, its candidate is no heir, and is killed after Timeout if
// it does not report that it is an orphan. After the commit message the candidate is an heir.
func TestCandidateIsAnHeirFromTheCommitOn(t *testing.T) {
	for name, commits := range map[string]bool{"before": false, "from then on": true} {
		s := idle(t)
		s.main, _ = s.generationOf(t, childOf(t))
		s.serving(t)
		c, _ := s.generationOf(t, childOf(t))
		c.parent, c.number, c.state = s.main, 6, candidate
		if commits {
			s.onChildren(s.main, onParentCommits)
		}
		dead := s.main
		dead.kill()
		if g := <-s.procs.deaths; g != dead {
			t.Fatal("another one has died")
		}
		s.died(dead)
		if heirs := s.procs.heirs(); (len(heirs) == 1) != commits || s.recovery.restartAt.IsZero() != commits || c.endBy.IsZero() != commits {
			t.Errorf("%s: %d heirs, restart at %v, it has until %v", name, len(heirs), s.recovery.restartAt, c.endBy)
		}
		if !commits {
			due := c.endBy
			s.recovery.restartAt = time.Time{} // nothing is started here
			s.tick(due)
			if g := <-s.procs.deaths; g != c {
				t.Error("it is not killed")
			}
		}
	}
}

// A candidate that came too late, and whose old process has ended, has AbortGrace and a second to end, and then is killed.
func TestCandidateThatWasTakenBackHasATimeToGo(t *testing.T) {
	s := idle(t)
	s.main, _ = s.generationOf(t, childOf(t))
	s.serving(t)
	c, _ := s.generationOf(t, childOf(t))
	c.parent, c.number, c.state = s.main, 6, draining
	s.main.kill()
	s.died(<-s.procs.deaths)
	if left := time.Until(c.endBy); left < s.opts.AbortGrace {
		t.Fatalf("it has %v to go", left)
	}
	s.recovery.restartAt = time.Time{} // nothing is started here
	s.tick(c.endBy)
	if g := <-s.procs.deaths; g != c {
		t.Error("it is not ended")
	}
}

// If a main generation reports that it commits, and then that it is the service again, its candidate is no longer committed.
func TestServiceTakenBackHasNoHeir(t *testing.T) {
	s := idle(t)
	m, channel := s.generationOf(t, childOf(t))
	s.main = m
	s.serving(t)
	c, _ := s.generationOf(t, childOf(t))
	c.parent, c.number, c.state = m, 6, candidate
	speak(t, channel, nil, sdnotify.WordCommitting)
	if s.receive(); c.state != committed {
		t.Fatal("the message of the commit had no effect")
	}
	speak(t, channel, nil, sdnotify.WordReady)
	s.receive()
	m.kill()
	s.died(<-s.procs.deaths)
	if len(s.procs.heirs()) != 0 || s.recovery.restartAt.IsZero() || c.endBy.IsZero() {
		t.Errorf("heirs %v, restart at %v, the candidate has until %v", s.procs.heirs(), s.recovery.restartAt, c.endBy)
	}
}

// A candidate whose old process has ended, and which becomes the service nevertheless, is not killed at the end of the time
// in which it had to report that it is an orphan.
func TestCandidateThatLeadsNeedsNotEnd(t *testing.T) {
	s := idle(t)
	s.main, _ = s.generationOf(t, childOf(t))
	s.serving(t)
	c, channel := s.generationOf(t, childOf(t))
	c.parent, c.number, c.state = s.main, 6, candidate
	s.main.kill()
	s.died(<-s.procs.deaths)
	due := c.endBy
	speak(t, channel, nil, sdnotify.WordReady)
	s.receive()
	if s.tick(due); due.IsZero() || s.main != c || c.state != serving || !c.endBy.IsZero() {
		t.Errorf("the candidate is %v, and has until %v", c.state, c.endBy)
	}
}
