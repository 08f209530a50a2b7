//go:build linux

package sdnotify

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// If the supervisor does not read in time, the caller gets an error, and the message is not sent later either. Otherwise the
// supervisor would learn of a commit that was given up. It does not matter whether the message waits in the queue or is the one
// that is being sent.
func TestMessageWithAnErrorIsNotSentLater(t *testing.T) {
	for name, behind := range map[string]bool{"being sent": false, "behind another": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, supervisor := supervisedBy(t)
			for err := error(nil); err == nil; { // until the channel is full
				err = n.sendNow(100*time.Millisecond, nil, strings.Repeat("fill", 500))
			}
			if behind {
				n.Say("another")
			}
			if err := n.sendNow(50*time.Millisecond, nil, WordCommitting); !errors.Is(err, errLate) {
				t.Errorf("the error is %v", err)
			}
			n.Say("last")
			for {
				text := read(t, supervisor)
				if text == WordCommitting {
					t.Error("a message was sent after its error")
				}
				if text == "last" {
					return
				}
			}
		})
	}
}
