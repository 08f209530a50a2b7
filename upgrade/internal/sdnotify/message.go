package sdnotify

import (
	"os"
	"slices"
	"strings"
)

// Message is one message on a channel, in lines.
type Message struct {
	Lines []string
	Files []*os.File // the receiver closes them
}

// Has reports whether the message has a line.
func (m Message) Has(line string) bool { return slices.Contains(m.Lines, line) }

// Value returns the value of a name that ends with an equals sign; empty without a value.
func (m Message) Value(name string) string {
	for _, l := range m.Lines {
		if v, ok := strings.CutPrefix(l, name); ok {
			return v
		}
	}
	return ""
}

// Values returns the values of a name, line by line.
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
