package killswitch

import (
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Status is what an operator wants to know of a Switch.
type Status struct {
	Name           string
	State          string // the Word
	Reason         string // of the kill or the latch that is in force, or else of the last revival; also the three fields below
	At             time.Time
	Host           string
	PID            int
	File           string
	FileError      string
	BroadcastError string
}

// Status returns the state, and the errors of the last write and of the last broadcast.
func (s *Switch) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	word, last := s.state.seen(s.broken)
	st := Status{
		Name: s.opts.Name, State: word.String(), Reason: last.Reason, Host: last.Host, PID: last.PID,
		File: s.opts.File, FileError: text(s.fileErr), BroadcastError: text(s.sentErr),
	}
	if last.At != 0 {
		st.At = time.UnixMilli(last.At)
	}
	return st
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// EntriesStatus is what an operator wants to know of Entries.
type EntriesStatus struct {
	Name           string
	InForce        map[string]Entry
	Cleared        string // the name of the last Clear; also the four fields below
	Reason         string
	At             time.Time
	Host           string
	PID            int
	File           string
	FileError      string
	BroadcastError string
}

// Status returns the entries that are in force now, the last Clear, and the errors of the last write and of the last broadcast.
// If the file could not be used at the start, FileError says so until the file is replaced.
func (e *Entries) Status() EntriesStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := e.state.Cleared
	return EntriesStatus{
		Name: e.opts.Name, InForce: e.state.inForceAt(time.Now()),
		Cleared: last.Name, Reason: last.Reason, At: fromMillis(last.At), Host: last.Host, PID: last.PID,
		File: e.opts.File, FileError: text(e.fileErr), BroadcastError: text(e.sentErr),
	}
}

func (table) kind() string { return "set of overrides" }

// summary returns the number of entries.
func (t table) summary(event) uint32 { return uint32(len(t.Entries)) }

func (table) inForce(event) string { return "the change is in force" }

func (table) unusable(file string, err error) string {
	return "the file " + file + " cannot be used, so no override comes from the file: look at the file; " +
		"the next override that is set or cleared replaces the file: " + err.Error()
}

// maxLines is how many names of a change are logged.
const maxLines = 20

// lines returns a line for each name that has another entry now. An expired entry that is left out is no line.
func (table) lines(was, is view[table]) (all []line) {
	if is.broken != was.broken && is.broken != (event{}) {
		all = append(all, line{level: slog.LevelError, text: "the file of overrides cannot be used", event: is.broken})
	}
	if slices.Equal(was.state.Entries, is.state.Entries) {
		return all
	}
	before, after := was.state.winners(), is.state.winners()
	for _, name := range changed(before, after) {
		if w, found := after[name]; found {
			all = append(all, w.line())
		} else if old := before[name]; !old.expired(now()) {
			all = append(all, is.state.clearedLine(old))
		}
	}
	if more := len(all) - maxLines; more > 0 {
		last := line{level: slog.LevelWarn, text: "more overrides have changed", attrs: []any{slog.Int("more", more)}}
		all = append(all[:maxLines:maxLines], last)
	}
	return all
}

// changed returns the names with another winner, in order.
func changed(before, after map[string]entry) (names []string) {
	for name, w := range after {
		if before[name] != w {
			names = append(names, name)
		}
	}
	for name := range before {
		if _, found := after[name]; !found {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// line is the line about a new entry.
func (e entry) line() line {
	attrs := e.attrs()
	if e.Until != 0 {
		attrs = append(attrs, slog.Time("until", fromMillis(e.Until)))
	}
	by := event{Reason: e.Reason, Host: e.Host, PID: e.PID}
	return line{level: slog.LevelWarn, text: "an override is set", event: by, attrs: attrs}
}

func (e entry) attrs() []any {
	return []any{slog.String("override", e.Name), slog.String("value", e.Value)}
}

// clearedLine is the line about an entry that is gone, with what is known about the clearing.
func (t table) clearedLine(old entry) line {
	l := line{level: slog.LevelInfo, text: "an override is cleared", attrs: old.attrs()}
	switch {
	case t.Cleared.Name == old.Name:
		l.event = t.Cleared.event
	case len(t.Entries) == maxEntries:
		l.level, l.text = slog.LevelWarn, fmt.Sprintf("an override is left out, because there are more than %d", maxEntries)
	}
	return l
}
