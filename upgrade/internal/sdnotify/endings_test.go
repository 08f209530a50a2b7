package sdnotify

import "testing"

// The end of a candidate reaches who asks for it, whichever comes first, and nothing is kept of it.
func TestEndIsToldToWhoAsks(t *testing.T) {
	n := new(Notifier)
	asked := n.EndOf(7)
	for _, lines := range [][]string{{WordEnded + "7", WordStatus + "exit status 1"}, {WordEnded + "8", WordStatus + "signal: killed"}} {
		if !n.endings.tell(Message{Lines: lines}) {
			t.Errorf("%q is about no end", lines)
		}
	}
	if got := <-asked; got != "exit status 1" {
		t.Error(got)
	}
	if got := <-n.EndOf(8); got != "signal: killed" {
		t.Error(got)
	}
	if len(n.endings.all) != 0 {
		t.Errorf("%v are left", n.endings.all)
	}
	for _, lines := range [][]string{nil, {WordEnded + "x"}, {WordConfirmed}} {
		if n.endings.tell(Message{Lines: lines}) {
			t.Errorf("%q is about an end", lines)
		}
	}
}
