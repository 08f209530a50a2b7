package sdnotify

import (
	"net"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"golang.org/x/sys/unix"
)

// tell sends a message with n descriptors to a generation.
func tell(t *testing.T, to *net.UnixConn, n int, text string) {
	t.Helper()
	if _, _, err := to.WriteMsgUnix([]byte(text), rightsOf(n), nil); err != nil {
		t.Fatal(err)
	}
}

// rightsOf returns a control message with n descriptors.
func rightsOf(n int) []byte {
	if n == 0 {
		return nil
	}
	return unix.UnixRights(make([]int, n)...)
}

// Heard delivers the messages of the supervisor in order, with their descriptors. After the last message the channel is closed.
// But Supervised returns false at once when the supervisor has ended, even while messages wait.
func TestSupervisorIsHeardToItsEnd(t *testing.T) {
	n, supervisor := supervisedBy(t)
	tell(t, supervisor, 1, WordSuccessor)
	tell(t, supervisor, 0, WordOrphan+"\n"+WordPID+"7")
	if !n.Supervised() {
		t.Error("the supervisor is dead, it says, while it has something to say")
	}
	supervisor.Close()
	if n.Supervised() {
		t.Error("the supervisor lives, it says")
	}
	a, b := <-n.Heard(), <-n.Heard()
	a.Close()
	if !a.Has(WordSuccessor) || len(a.Files) != 1 || !b.Has(WordOrphan) || b.Value(WordPID) != "7" || len(b.Files) != 0 {
		t.Errorf("%q with %d descriptors, %q with %d", a.Lines, len(a.Files), b.Lines, len(b.Files))
	}
	select {
	case m, ok := <-n.Heard():
		if ok {
			t.Errorf("%q", m.Lines)
		}
	case <-time.After(10 * time.Second):
		t.Error("the end is not heard")
	}
}

// If messages are not received from Heard, Close still returns, and no descriptor stays open.
func TestUnheardMessageHoldsUpNothing(t *testing.T) {
	before := len(testutil.OpenFDs())
	n, supervisor := supervisedBy(t)
	for range 3 {
		tell(t, supervisor, 2, WordSuccessor)
	}
	n.Close()
	supervisor.Close()
	if now := len(testutil.OpenFDs()); now > before {
		t.Errorf("%d descriptors are open, and were %d before", now, before)
	}
	if (*Notifier)(nil).Heard() != nil {
		t.Error("something is to be heard without a manager")
	}
}
