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

// heardBy reads what the supervisor has said on a channel.
func heardBy(t *testing.T, channel *os.File) (m sdnotify.Message) {
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

// withOrphan is a supervisor whose main generation, number 5, has crashed in an upgrade, and its candidate, which says that it
// is an orphan.
func withOrphan(t *testing.T) (s *supervisor, orphan *generation, channel *os.File) {
	t.Helper()
	s = idle(t)
	s.main, _ = s.generationOf(t, childOf(t))
	s.serving(t)
	orphan, channel = s.generationOf(t, childOf(t))
	orphan.parent, orphan.number = s.main, 6
	speak(t, channel, nil, sdnotify.WordOrphan, sdnotify.WordVersion+"bad")
	dead := s.main
	dead.kill()
	if g := <-s.deaths; g != dead {
		t.Fatal("another one has died")
	}
	s.died(dead)
	return s, orphan, channel
}

// The committed build is started at once although an orphan lives, with a number above both.
func TestOrphanIsNoHeir(t *testing.T) {
	s, orphan, _ := withOrphan(t)
	if s.restartAt.IsZero() || !s.heirsDue.IsZero() || len(s.heirs()) != 0 {
		t.Errorf("restart at %v, heirs have until %v", s.restartAt, s.heirsDue)
	}
	if all := s.orphans(); len(all) != 1 || all[0] != orphan || orphan.version != "bad" {
		t.Errorf("orphans: %v", all)
	}
	if got := s.nextNumber(); got != 7 {
		t.Errorf("the committed build gets number %d, want 7", got)
	}
}

// An orphan that claims to be the service is not believed, also if nobody else serves.
func TestClaimOfAnOrphanIsNotBelieved(t *testing.T) {
	s, orphan, channel := withOrphan(t)
	speak(t, channel, nil, sdnotify.WordReady, sdnotify.WordGeneration+"9")
	s.receive()
	if s.main != nil || orphan.isMain {
		t.Error("it is the main generation")
	}
}

// The main generation, and one that only drains, cannot make themselves orphans.
func TestOnlyACandidateIsAnOrphan(t *testing.T) {
	for name, change := range map[string]func(g *generation){
		"main": func(g *generation) { g.isMain = true }, "draining": func(g *generation) { g.left = true },
	} {
		s := idle(t)
		g, channel := s.self(t)
		change(g)
		speak(t, channel, nil, sdnotify.WordOrphan)
		if s.receive(); g.orphan {
			t.Errorf("%s: it is", name)
		}
	}
}

// When the committed build serves, it and the orphan get the two ends of one socket, and the orphan has its time to go.
func TestDismissedOrphanMeetsTheMainGeneration(t *testing.T) {
	s, orphan, channel := withOrphan(t)
	m, mainChannel := s.self(t)
	m.number = 7
	speak(t, mainChannel, nil, sdnotify.WordReady)
	s.receive()
	if s.main != m || !orphan.left || len(s.orphans()) != 0 {
		t.Fatalf("main %v; the orphan is dismissed: %v", s.main, orphan.left)
	}
	told, about := heardBy(t, channel), heardBy(t, mainChannel)
	if !told.Has(sdnotify.WordSuccessor) || len(told.Files) != 1 || len(about.Files) != 1 ||
		!about.Has(sdnotify.WordOrphan) || about.Value(sdnotify.WordGeneration) != "6" || about.Value(sdnotify.WordVersion) != "bad" {
		t.Fatalf("the orphan hears %q, the main generation %q", told.Lines, about.Lines)
	}
	a, err := net.FileConn(told.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := about.Files[0].Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Read(make([]byte, 10)); n != 1 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if left := time.Until(orphan.goneDue); left < s.opts.AbortGrace || s.pause() > left {
		t.Errorf("it has %v to go, and the supervisor sleeps for %v", left, s.pause())
	}
	first := orphan.goneDue
	s.tick(first)
	if !orphan.told || !orphan.goneDue.After(first) {
		t.Error("it is not told to end before it is killed")
	}
	s.tick(orphan.goneDue)
	if g := <-s.deaths; g != orphan {
		t.Error("it does not end")
	}
}

// An orphan that cannot be told is ended by a signal.
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
	if g := <-s.deaths; g != orphan {
		t.Error("it lives")
	}
}

// Only when the committed build has failed to start twice the orphan is told that it is the service, and believed then.
func TestOrphanIsConfirmedAfterTwoFailures(t *testing.T) {
	s, orphan, channel := withOrphan(t)
	for n := range mostFailed {
		if !orphan.orphan || s.restartAt.IsZero() {
			t.Fatalf("after %d failures it is confirmed", n)
		}
		s.restartAt = time.Time{}
		g, _ := s.generationOf(t, childOf(t))
		s.main = g
		g.kill()
		s.died(<-s.deaths)
	}
	if m := heardBy(t, channel); !m.Has(sdnotify.WordConfirmed) || orphan.orphan || !s.restartAt.IsZero() || s.heirsDue.IsZero() {
		t.Fatalf("it hears %q, restart at %v, it has until %v", m.Lines, s.restartAt, s.heirsDue)
	}
	speak(t, channel, nil, sdnotify.WordReady)
	s.receive()
	if s.main != orphan || s.outage.failed != 0 {
		t.Errorf("main %v, %d failures", s.main, s.outage.failed)
	}
}

// What the supervisor says is one message of whole lines, whatever a version is called.
func TestVersionOfAnOrphanAddsNoLine(t *testing.T) {
	s, orphan, _ := withOrphan(t)
	orphan.version = strings.Repeat("v", 7000)
	m, mainChannel := s.self(t)
	m.number = 7
	speak(t, mainChannel, nil, sdnotify.WordReady)
	s.receive()
	if m := heardBy(t, mainChannel); len(m.Lines) != 4 || slices.Contains(m.Lines, sdnotify.WordConfirmed) {
		t.Errorf("%q", m.Lines)
	}
}

// An orphan and the process that is started in its place get their socket before that one is executed, and not a second time when
// it serves.
func TestOrphanMeetsItsSuccessorBeforeTheStart(t *testing.T) {
	s, orphan, channel := withOrphan(t)
	g, mainChannel := s.generationOf(t, childOf(t))
	g.number = s.nextNumber()
	s.introduceOrphans(g.inbox.file, g.number)
	told, about := heardBy(t, channel), heardBy(t, mainChannel)
	if !told.Has(sdnotify.WordSuccessor) || len(told.Files) != 1 || !about.Has(sdnotify.WordOrphan) || len(about.Files) != 1 {
		t.Fatalf("the orphan hears %q, the other one %q", told.Lines, about.Lines)
	}
	speak(t, mainChannel, nil, sdnotify.WordReady)
	s.receive()
	if s.main != g || !orphan.left || orphan.goneDue.IsZero() {
		t.Fatal("it is not the main generation, or the orphan stays")
	}
	buf := make([]byte, 100)
	if n, _, err := unix.Recvfrom(int(sys.FD(channel)), buf, unix.MSG_DONTWAIT); err == nil {
		t.Errorf("the orphan hears %q too", buf[:n])
	}
}

// A candidate of a main generation that has ended before it sent the commit message is no heir, also if it says nothing, and is
// ended after Timeout; from the commit message on it is one.
func TestCandidateIsAnHeirFromTheCommitOn(t *testing.T) {
	for name, committing := range map[string]bool{"before": false, "from then on": true} {
		s := idle(t)
		s.main, _ = s.generationOf(t, childOf(t))
		s.serving(t)
		s.main.committing = committing
		c, _ := s.generationOf(t, childOf(t))
		c.parent, c.number = s.main, 6
		dead := s.main
		dead.kill()
		if g := <-s.deaths; g != dead {
			t.Fatal("another one has died")
		}
		s.died(dead)
		if heirs := s.heirs(); (len(heirs) == 1) != committing || s.restartAt.IsZero() != committing || c.goneDue.IsZero() != committing {
			t.Errorf("%s: %d heirs, restart at %v, it has until %v", name, len(heirs), s.restartAt, c.goneDue)
		}
		if !committing {
			due := c.goneDue
			s.restartAt = time.Time{} // nothing is started here
			s.tick(due)
			if g := <-s.deaths; g != c {
				t.Error("it is not killed")
			}
		}
	}
}

// A candidate that was taken back, and whose old process has ended, has the time to go that it would have had, and is ended then.
func TestCandidateThatWasTakenBackHasATimeToGo(t *testing.T) {
	s := idle(t)
	s.main, _ = s.generationOf(t, childOf(t))
	s.serving(t)
	c, _ := s.generationOf(t, childOf(t))
	c.parent, c.number, c.left = s.main, 6, true
	s.main.kill()
	s.died(<-s.deaths)
	if left := time.Until(c.goneDue); left < s.opts.AbortGrace {
		t.Fatalf("it has %v to go", left)
	}
	s.restartAt = time.Time{} // nothing is started here
	s.tick(c.goneDue)
	if g := <-s.deaths; g != c {
		t.Error("it is not ended")
	}
}

// A main generation that has said that it commits, and then takes the service back, stands behind its candidate no more.
func TestServiceTakenBackHasNoHeir(t *testing.T) {
	s := idle(t)
	m, channel := s.generationOf(t, childOf(t))
	s.main = m
	s.serving(t)
	c, _ := s.generationOf(t, childOf(t))
	c.parent, c.number = m, 6
	speak(t, channel, nil, sdnotify.WordCommitting)
	if s.receive(); !m.committing {
		t.Fatal("it is not heard that it commits")
	}
	speak(t, channel, nil, sdnotify.WordReady)
	s.receive()
	m.kill()
	s.died(<-s.deaths)
	if len(s.heirs()) != 0 || s.restartAt.IsZero() || c.goneDue.IsZero() {
		t.Errorf("heirs %v, restart at %v, the candidate has until %v", s.heirs(), s.restartAt, c.goneDue)
	}
}
