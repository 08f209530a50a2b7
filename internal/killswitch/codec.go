package killswitch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/midair-go/midair/internal/kept"
)

const (
	// maxName is the number of bytes of a name, of a value, and of the name of a host, that an entry has at most.
	maxName = 256
	// An id has a number of numberDigits hexadecimal digits, and then 16 random ones. Every process adds 1 to the greatest number
	// that the process knows.
	numberDigits = 12
	idDigits     = numberDigits + 16
)

// tableFormat is the layout of a table: JSON in the whole body. Unknown fields, of a later build, are ignored. The largest table
// has less than statefile.MaxSize bytes, also if JSON escapes every character.
var tableFormat = kept.Format{Name: "overrides", Magic: "midair-overrides\x00", Version: 1}

func (t table) encode() []byte { return tableFormat.Seal(append(tableFormat.Begin(), plainJSON(t)...)) }

// plainJSON returns JSON in which the characters for HTML are not escaped, as they would be six times as long.
func plainJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil { // cannot happen: a table has strings and numbers only
		return []byte("{}")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// decode is the inverse of encode. If the table has what no process writes, decode returns the error of a damaged table.
func (table) decode(data []byte) (table, error) {
	r := tableFormat.Open(data)
	if err := r.Err(); err != nil {
		return table{}, err
	}
	var raw table
	if err := json.Unmarshal(r.Take(uint64(r.Left())), &raw); err != nil {
		return table{}, r.Damaged(err)
	}
	if err := raw.check(); err != nil {
		return table{}, r.Damaged(err)
	}
	for i := range raw.Entries {
		e := &raw.Entries[i]
		e.Reason, e.Host = cleanLine(e.Reason, maxText), cleanLine(e.Host, maxName)
	}
	c := &raw.Cleared
	c.Name, c.Reason, c.Host = cleanLine(c.Name, maxName), cleanLine(c.Reason, maxText), cleanLine(c.Host, maxName)
	t := table{}.merge(table{Entries: raw.Entries}) // in order, and each id once
	t.Floor, t.Since, t.Cleared = raw.Floor, raw.Since, raw.Cleared
	return t.drop(func(e entry) bool { return slices.Contains(raw.Gone, e.ID) }).forget(raw.Gone), nil
}

// check returns an error if no process writes such a table.
func (t table) check() error {
	for _, e := range t.Entries {
		if !validID(e.ID) || e.Name == "" || checkText(e.Name) != nil || checkText(e.Value) != nil {
			return fmt.Errorf("an entry %q, %q, %q", e.ID, e.Name, e.Value)
		}
	}
	for _, id := range slices.Concat(t.Gone, []string{t.Floor, t.Since}) {
		if id != "" && !validID(id) {
			return fmt.Errorf("an id %q", id)
		}
	}
	if slices.Contains(t.Gone, "") || t.Cleared.Count > maxCount {
		return errors.New("an empty id, or a count that is too large")
	}
	return nil
}

// validID reports whether an id has the form of nextID, and has room for greater ids.
func validID(id string) bool {
	return len(id) == idDigits && id[0] < '8' && strings.Trim(id, "0123456789abcdef") == ""
}

// checkText returns an error if a text cannot be the name or the value of an entry. No text is cut: it would name something else.
func checkText(text string) error {
	if len(text) > maxName {
		return fmt.Errorf("it has %d bytes, and at most %d are possible", len(text), maxName)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("it is not UTF-8, or has control characters")
	}
	return nil
}

// parts returns the table in parts of at most limit bytes, in the order of the ids. Each part has the entries above Since, and
// of the entries that are gone: the ids, and Floor up to the last id of the part.
func (t table) parts(limit int, _ string) (all [][]byte) {
	longest := strings.Repeat("7", idDigits)
	room := limit - len(table{Floor: longest, Since: longest, Entries: []entry{{}}, Gone: []string{""}, Cleared: t.Cleared}.encode())
	part, size := table{Cleared: t.Cleared}, 0
	entries, gone := t.Entries, t.Gone
	last := "" // the last id of the part
	for len(entries)+len(gone) > 0 {
		isEntry := len(gone) == 0 || len(entries) > 0 && entries[0].ID < gone[0]
		more := idDigits + 3
		if isEntry {
			more = len(plainJSON(entries[0])) + 1
		}
		if size > 0 && size+more > room {
			part.Floor = min(t.Floor, last)
			all = append(all, part.encode())
			part, size = table{Cleared: t.Cleared, Since: last}, 0
		}
		size += more
		if isEntry {
			last, part.Entries, entries = entries[0].ID, append(part.Entries, entries[0]), entries[1:]
		} else {
			last, part.Gone, gone = gone[0], append(part.Gone, gone[0]), gone[1:]
		}
	}
	part.Floor = t.Floor
	return append(all, part.encode())
}
