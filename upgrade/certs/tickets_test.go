package certs_test

import (
	"crypto/tls"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/upgrade/certs"
)

const day = 24 * time.Hour

// A key is accepted for 7 days after its begin, even if the ticket is younger.
func TestATicketIsAcceptedAsLongAsItsKey(t *testing.T) {
	for name, version := range versions {
		synctest.Test(t, func(t *testing.T) {
			id := issue(t, "one")
			process := newFiles(t, id).open(certs.Options{})
			c := newClient(t, version, id)
			c.visit(process) // makes the first key
			time.Sleep(day - time.Minute)
			last := c.holder(process)
			time.Sleep(2 * time.Minute)
			next := c.holder(process) // this ticket is encrypted with the second key
			time.Sleep(6*day - 2*time.Minute)
			if !last.visit(process) {
				t.Errorf("%s: refused a minute before the key is 7 days old", name)
			}
			time.Sleep(2 * time.Minute)
			if last.visit(process) {
				t.Errorf("%s: accepted after 7 days", name)
			}
			if !next.visit(process) {
				t.Errorf("%s: the key of the day after is refused as well", name)
			}
		})
	}
}

// Each day has its own key. There are never more keys than the keys of 7 days and of the next day.
func TestEachDayHasAKeyAndTheyDoNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := issue(t, "one")
		f := newFiles(t, id)
		process := f.open(certs.Options{})
		c := newClient(t, tls.VersionTLS13, id)
		used := map[certs.Key]bool{}
		for range 30 {
			for range 3 {
				c.visit(process)
				used[process.Keys()[0]] = true
				time.Sleep(day / 3)
			}
			process = f.succeed(process) // an upgrade makes no difference
			if n := process.Status().TicketKeys; n > 8 {
				t.Fatalf("%d keys", n)
			}
		}
		if len(used) != 30 || process.Status().TicketKeys != 8 {
			t.Errorf("%d keys were used in 30 days, %d are left", len(used), process.Status().TicketKeys)
		}
	})
}

// After a long time without a connection, a process goes on with a new key.
func TestAKeyIsMadeAfterALongTimeWithoutVisits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := issue(t, "one")
		process := newFiles(t, id).open(certs.Options{})
		c := newClient(t, tls.VersionTLS13, id)
		c.visit(process)
		old := process.Keys()
		time.Sleep(30 * day)
		if c.visit(process) || !c.visit(process) {
			t.Error("resumption after 30 days, or none again")
		}
		if keys := process.Keys(); len(keys) != 2 || keys[0] == old[0] || keys[0] == old[1] || !keys[0].From.Equal(time.Now()) {
			t.Errorf("the keys are %v", keys)
		}
		time.Sleep(3 * day) // the key of the next day is too old as well
		c.visit(process)
		if keys := process.Keys(); !keys[0].From.Equal(time.Now()) || len(keys) != 4 {
			t.Errorf("three days later the keys are %v", keys)
		}
	})
}

// Two processes that serve side by side change to the same key at the same moment.
func TestProcessesSideBySideChangeToTheSameKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := issue(t, "one")
		f := newFiles(t, id)
		old := f.open(certs.Options{})
		c := newClient(t, tls.VersionTLS13, id)
		c.visit(old)
		first := old.Keys()[0]
		time.Sleep(day - time.Hour)
		candidate := f.succeed(old)
		time.Sleep(2 * time.Hour)
		mine, its := c.holder(old), c.holder(candidate)
		if !mine.visit(candidate) || !its.visit(old) {
			t.Error("one does not accept a ticket of the other after the change of the day")
		}
		a, b := old.Keys()[0], candidate.Keys()[0]
		if a != b || a == first {
			t.Errorf("they encrypt with %v and %v, the day before it was %v", a, b, first)
		}
	})
}

// Keys of another process may change the time at which the next key begins to encrypt. It begins at this time, and no key
// encrypts for longer than a day.
func TestKeysOfAnotherProcessEncryptAtTheirTime(t *testing.T) {
	for _, c := range []struct{ next, wait, by float64 }{{0.1, 0.2, 'b'}, {0.9, 0.6, 0}} {
		synctest.Test(t, func(t *testing.T) {
			id := issue(t, "one")
			f := newFiles(t, id)
			process := f.open(certs.Options{})
			a, b := ago('a', 0.5), ago('b', -c.next)
			must(t, process.UnmarshalBinary(certs.Encode(a, b)))
			time.Sleep(time.Duration(c.wait * float64(day)))
			held := newClient(t, tls.VersionTLS13, id).holder(process)
			for _, k := range []certs.Key{a, b} {
				other := f.open(certs.Options{})
				must(t, other.UnmarshalBinary(certs.Encode(k)))
				if got := held.visit(other); got != (float64(k.Secret) == c.by) {
					t.Errorf("%v days later, with the next key after %v: encrypted by %c: %v", c.wait, c.next, k.Secret, got)
				}
			}
		})
	}
}

// If several first handshakes come at the same time, they make only one key.
func TestFirstHandshakesAtOnceMakeOneKey(t *testing.T) {
	f := newFiles(t, issue(t, "one"))
	for range 20 {
		process := f.open(certs.Options{})
		begin := make(chan struct{})
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				<-begin
				process.Tickets()
			})
		}
		close(begin)
		all.Wait()
		if n := process.Status().TicketKeys; n != 2 {
			t.Errorf("%d keys", n)
		}
	}
}

// Ticket keys may be used, changed and handed over at the same time.
func TestTicketsMayBeUsedWhileTheyAreFed(t *testing.T) {
	id := issue(t, "one")
	f := newFiles(t, id)
	process, other := f.open(certs.Options{}), f.open(certs.Options{})
	var all sync.WaitGroup
	for name, version := range versions {
		all.Go(func() {
			c := newClient(t, version, id)
			for i := range 20 {
				s, err := c.try(process.Config())
				if err != nil || s.DidResume != (i > 0) {
					t.Errorf("%s, visit %d: resumed %v, %v", name, i, s.DidResume, err)
				}
			}
		})
	}
	for _, pair := range [][2]*certs.Certs{{process, other}, {other, process}} {
		all.Go(func() {
			for range 50 {
				data, err := pair[0].MarshalBinary()
				if err == nil {
					err = pair[1].UnmarshalBinary(data)
				}
				if err != nil || pair[0].Status().State != "ready" {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// The monotonic clock decides when the keys are arranged again. So a clock that is set back does not make a key encrypt for
// longer.
func TestRotationIsDueByTheMonotonicClock(t *testing.T) {
	c := newFiles(t, issue(t, "one")).open(certs.Options{})
	c.Tickets()
	if due := c.Due(); !strings.Contains(due.String(), " m=") || time.Until(due) > 24*time.Hour {
		t.Errorf("due at %v", due)
	}
}
