package sdnotify

import "testing"

// EndOf delivers the end of a candidate, whether EndOf is called before or after the message arrives. Afterwards nothing is
// left in the map.
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
