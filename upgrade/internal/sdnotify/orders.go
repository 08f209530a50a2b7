package sdnotify

import (
	"os"
	"slices"
	"strings"
)

// What the supervisor tells a generation on its channel. To one that it starts, it gives the sockets that it holds; the first
// message waits in the channel before the generation is executed. Later it says something only about an orphan: a candidate
// whose old process has died before the candidate received the commit message.
//
//	X_MIDAIR_SOCKETS=1     with descriptors, and a line FDNAME= for each. The generation answers X_MIDAIR_RECEIVED=1 if more are
//	                       to come: the kernel limits what a user has on the way
//	X_MIDAIR_CONFIRMED=1   to an orphan: it is the service
//	X_MIDAIR_DISMISSED=1   to an orphan: the build that was committed serves; with a control socket to that process
//	X_MIDAIR_ORPHAN=1      to that process, with the other end: MAINPID=, X_MIDAIR_GENERATION= and X_MIDAIR_VERSION= are the
//	                       orphan's. From a generation it means that this generation is an orphan
const (
	WordSockets   = "X_MIDAIR_SOCKETS=1"
	WordReceived  = "X_MIDAIR_RECEIVED=1"
	WordOrphan    = "X_MIDAIR_ORPHAN=1"
	WordConfirmed = "X_MIDAIR_CONFIRMED=1"
	WordDismissed = "X_MIDAIR_DISMISSED=1"
)

// Message is what is said at once on a channel, in lines.
type Message struct {
	Lines []string
	Files []*os.File // the receiver closes them
}

// Has reports whether the message has that line.
func (m Message) Has(line string) bool { return slices.Contains(m.Lines, line) }

// Value returns what is assigned to a name that ends with an equals sign; empty if nothing is.
func (m Message) Value(name string) string {
	for _, l := range m.Lines {
		if v, ok := strings.CutPrefix(l, name); ok {
			return v
		}
	}
	return ""
}

// Values returns what is assigned to a name, line by line.
func (m Message) Values(name string) (all []string) {
	for _, l := range m.Lines {
		if v, ok := strings.CutPrefix(l, name); ok {
			all = append(all, v)
		}
	}
	return all
}

// Close closes the files.
func (m Message) Close() {
	for _, f := range m.Files {
		f.Close()
	}
}

// Heard returns the channel on which the messages of this library's supervisor come. It is closed when the supervisor has ended.
// Nothing comes without the supervisor.
func (n *Notifier) Heard() <-chan Message {
	if n == nil {
		return nil
	}
	return n.heard
}

// listen hears the supervisor until the supervisor ends, or until Close.
func (n *Notifier) listen() {
	defer close(n.deafened)
	for {
		m, err := receive(n.channel)
		if err != nil {
			if !n.ended() {
				close(n.heard)
			}
			return
		}
		select {
		case n.heard <- m:
		case <-n.stop:
			m.Close()
		}
	}
}
