package sdnotify

import (
	"os"
	"slices"
	"strings"
)

// Message is a message on a channel. Its text consists of lines.
type Message struct {
	Lines []string
	Files []*os.File // the receiver of the message calls Close
}

// Has reports whether the message has a line.
func (m Message) Has(line string) bool { return slices.Contains(m.Lines, line) }

// Value returns the rest of the first line that begins with name. name ends with an equals sign. The result is empty if there
// is no such line.
func (m Message) Value(name string) string {
	for _, l := range m.Lines {
		if v, ok := strings.CutPrefix(l, name); ok {
			return v
		}
	}
	return ""
}

// Values returns the rests of all lines that begin with name.
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
