package killswitch

import (
	"bytes"
	"time"
)

// An Entry is the value of a name in Entries.
type Entry struct {
	Value  string
	Until  time.Time // when the entry ends; zero: no end
	Reason string    // for people; cut at 512 bytes
	At     time.Time // when, on which host and in which process the entry was set; Set ignores these three
	Host   string
	PID    int
}

// Entries are named values, such as overrides of flags, which processes set and clear. The zero value is empty, and has no name,
// no file and no broadcast.
//
// The last Set of a name wins over all earlier ones that its process knew, whatever the clocks say. If two processes set the same
// name at the same time, the later time wins, in all processes. A Clear clears exactly the entries that its process knew. An
// entry that was replaced or cleared never comes back, and neither does an entry that has lost when the winner ends.
//
// At most 256 names can be in force. A process whose file cannot be used at the start has no entries from the file: Status and
// the log say why, and the next Set or Clear of this process replaces the file.
type Entries struct{ replica[table] }

// Set gives a name a value. The entry is in force in this process first, then OnChange is called, then the entry is sent, and
// then written to the file. If sending or writing fails, Set returns the error, and the entry is in force all the same. If a text
// cannot be stored, or if too many names are in force, Set changes nothing. Name and value are UTF-8 without control characters,
// of at most 256 bytes each.
func (e *Entries) Set(name string, en Entry) error {
	err := e.check(name, en.Value)
	if err == nil {
		err = e.full(name)
	}
	if err != nil {
		return err
	}
	id := e.set(name, en)
	err = e.Publish()
	if e.outrun(id) { // by what Publish has found in the file
		e.set(name, en)
		err = e.Publish()
	}
	return err
}

// check returns an error if a name or a value cannot be stored.
func (e *Entries) check(name, value string) error {
	if name == "" {
		return e.errorf("an entry needs a name")
	}
	if err := checkText(name); err != nil {
		return e.errorf("the name %.40q cannot be used: %w", name, err)
	}
	if err := checkText(value); err != nil {
		return e.errorf("%q cannot be set to %.40q: %w", name, value, err)
	}
	return nil
}

// full returns an error if there is no room for a name.
func (e *Entries) full(name string) error {
	all := e.InForce(time.Now())
	if _, found := all[name]; found || len(all) < maxNames {
		return nil
	}
	return e.errorf("%q cannot be set, because %d names are set, and no more are possible: clear one", name, len(all))
}

// set sets a name in memory, and returns the id of the entry.
func (e *Entries) set(name string, en Entry) (id string) {
	e.change(here, func(t table) table {
		id = t.nextID(randomID())
		return t.set(entry{
			ID: id, Name: name, Value: en.Value, Until: endMillis(en.Until), At: now(), Reason: cleanLine(en.Reason, maxText),
			Host: cleanLine(e.me.Host, maxName), PID: e.me.PID,
		})
	})
	return id
}

// outrun reports whether an entry of this process counts as gone only because more changes were unknown to the process than a
// table remembers.
func (e *Entries) outrun(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return id <= e.state.Floor && !e.state.has(id)
}

// Clear clears the entries with a name which this process knows. If the file has an entry that was unknown to the process,
// the name is set again when Clear returns, and Clear returns an error.
func (e *Entries) Clear(name, reason string) error {
	if err := e.check(name, ""); err != nil {
		return err
	}
	e.change(here, func(t table) table {
		return t.clear(name, event{
			At: now(), Reason: cleanLine(reason, maxText), Host: cleanLine(e.me.Host, maxName), PID: e.me.PID,
		})
	})
	if err := e.Publish(); err != nil {
		return err
	}
	if again, found := e.InForce(time.Now())[name]; found {
		return e.errorf("%q is set to %q again, because an entry was unknown to this process (%s): clear again to clear it too",
			name, again.Value, again.Reason)
	}
	return nil
}

// InForce returns the entries that are in force at a time, by their names. It does no I/O, and is nil if there are none.
func (e *Entries) InForce(at time.Time) map[string]Entry {
	if e.word.Load() == 0 {
		return nil
	}
	e.mu.Lock()
	t := e.state
	e.mu.Unlock()
	return t.inForceAt(at)
}

// Next returns when the first of the entries in force ends, for a timer, or false if none has an end.
func (e *Entries) Next(at time.Time) (next time.Time, found bool) {
	for _, en := range e.InForce(at) {
		if !en.Until.IsZero() && (!found || en.Until.Before(next)) {
			next, found = en.Until, true
		}
	}
	return next, found
}

// IsEntries reports whether data is what Encode of Entries, or their Broadcast, has made.
func IsEntries(data []byte) bool { return bytes.HasPrefix(data, []byte(tableFormat.Magic)) }

// Unused reports whether nothing was ever set, as far as this process knows.
func (e *Entries) Unused() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state.equal(table{})
}
