package killswitch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

const (
	// maxEntries is how many entries a table has at most. Set refuses another name above maxNames; the rest is for what
	// several processes set at the same time.
	maxEntries = maxNames + 128
	maxNames   = 256
	// maxGone is how many entries that are gone a table remembers by their ids.
	maxGone = 256
	// keepExpired is how long an expired entry stays in a table, in milliseconds: a clock may be set back.
	keepExpired = int64(24 * time.Hour / time.Millisecond)
)

// A table is the knowledge about named entries: the entries, and which entries are gone, because they were replaced or cleared.
// The zero value is empty.
//
// Each call of Set makes an entry with an id that no other entry ever gets. Set and Clear make all known entries with the name
// gone, and an entry is gone in every process that knows so: a table is an observed-remove set (Shapiro, Preguiça, Baquero and
// Zawirski, A comprehensive study of Convergent and Commutative Replicated Data Types, 2011). An entry that was unknown to the
// process of a Set or Clear stays. Several entries with the same name are in a table only if none of their processes knew
// the entry of another. Then the later entry wins, by the clock.
//
// Ids are ordered: an id is greater than all ids that its process knew. So a table need not keep every id that is gone: an id of
// at most Floor is gone, unless the entry is in the table. A process that knows none of the last maxGone ids may make an entry
// below Floor. Entries.Set makes the entry again then.
type table struct {
	Floor   string   `json:"floor,omitempty"`
	Entries []entry  `json:"entries,omitempty"` // ordered by ID
	Gone    []string `json:"gone,omitempty"`    // ids above Floor, in order
	Cleared clearing `json:"cleared,omitzero"`  // the last clearing
	// Since is for a part of a table: Floor says nothing about ids of at most Since.
	Since string `json:"since,omitempty"`
}

// An entry is a value for a name, as one call of Set has made it. Times are in milliseconds since 1970.
type entry struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Value  string `json:"value"`
	Until  int64  `json:"until,omitempty"` // zero: no end
	At     int64  `json:"at,omitempty"`
	Reason string `json:"reason,omitempty"`
	Host   string `json:"host,omitempty"`
	PID    int    `json:"pid,omitempty"`
}

// compare puts the winner of two entries with the same name last. It compares all fields: two tables may tell different things
// about an id, as no two processes do, and have the same winner even so.
func (e entry) compare(other entry) int {
	return cmp.Or(cmp.Compare(e.At, other.At), cmp.Compare(e.ID, other.ID), cmp.Compare(e.Name, other.Name),
		cmp.Compare(e.Value, other.Value), cmp.Compare(e.Until, other.Until), cmp.Compare(e.Reason, other.Reason),
		cmp.Compare(e.Host, other.Host), cmp.Compare(e.PID, other.PID))
}

func (e entry) expired(at int64) bool { return e.Until != 0 && e.Until <= at }

// A clearing is a call of Clear. Count is greater than the counts that its process knew.
type clearing struct {
	Count uint64 `json:"count,omitempty"`
	Name  string `json:"name,omitempty"`
	event
}

func (c clearing) compare(other clearing) int {
	return cmp.Or(cmp.Compare(c.Count, other.Count), c.event.compare(other.event), cmp.Compare(c.Name, other.Name))
}

func byEntryID(e entry, id string) int { return cmp.Compare(e.ID, id) }

func (t table) has(id string) bool {
	_, found := slices.BinarySearchFunc(t.Entries, id, byEntryID)
	return found
}

// gone reports whether the table knows that an entry is gone.
func (t table) gone(id string) bool {
	if _, found := slices.BinarySearch(t.Gone, id); found {
		return true
	}
	return t.Since < id && id <= t.Floor && !t.has(id)
}

// nextID returns an id above all ids in the table.
func (t table) nextID(random string) string {
	last := t.Floor
	if n := len(t.Gone); n > 0 {
		last = max(last, t.Gone[n-1])
	}
	if n := len(t.Entries); n > 0 {
		last = max(last, t.Entries[n-1].ID)
	}
	number := uint64(0)
	if last != "" {
		number, _ = strconv.ParseUint(last[:numberDigits], 16, 64) // cannot fail: decode has checked the id
	}
	return fmt.Sprintf("%0*x%s", numberDigits, number+1, random)
}

// set returns the table with an entry in the place of the known ones with its name. The id of the entry is from nextID.
func (t table) set(e entry) table {
	t = t.drop(func(old entry) bool { return old.Name == e.Name })
	t.Entries = append(slices.Clip(t.Entries), e)
	return t
}

// clear returns the table without the known entries with a name.
func (t table) clear(name string, by event) table {
	t = t.drop(func(e entry) bool { return e.Name == name })
	t.Cleared = clearing{Count: t.Cleared.Count + 1, Name: name, event: by}
	return t
}

// drop returns the table after the entries that match are gone.
func (t table) drop(match func(entry) bool) table {
	var stay []entry
	var ids []string
	for _, e := range t.Entries {
		if match(e) {
			ids = append(ids, e.ID)
		} else {
			stay = append(stay, e)
		}
	}
	if ids == nil {
		return t
	}
	t.Entries = stay
	return t.forget(ids)
}

// forget returns the table with ids among those of the entries that are gone.
func (t table) forget(ids []string) table {
	all := slices.Concat(t.Gone, ids)
	slices.Sort(all)
	t.Gone = slices.DeleteFunc(slices.Compact(all), func(id string) bool { return id <= t.Floor })
	return t
}

// merge returns what t and other know together. The receiver is a whole table; other may be a part. If a part comes before
// the parts in front of it, what is gone is gone, and Floor stays.
func (t table) merge(other table) table {
	all := make(map[string]entry, len(t.Entries)+len(other.Entries))
	for _, e := range slices.Concat(t.Entries, other.Entries) {
		if old, found := all[e.ID]; !found || e.compare(old) > 0 {
			all[e.ID] = e
		}
	}
	merged := table{Floor: t.Floor, Cleared: t.Cleared}
	if other.Since <= t.Floor {
		merged.Floor = max(t.Floor, other.Floor)
	}
	if other.Cleared.compare(t.Cleared) > 0 {
		merged.Cleared = other.Cleared
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		merged.Entries = append(merged.Entries, all[id])
	}
	merged = merged.drop(func(e entry) bool { return t.gone(e.ID) || other.gone(e.ID) })
	return merged.forget(slices.Concat(t.Gone, other.Gone))
}

// winners returns the entry for each name. An expired winner hides the others with its name: they have lost already.
func (t table) winners() map[string]entry {
	all := make(map[string]entry, len(t.Entries))
	for _, e := range t.Entries {
		if old, found := all[e.Name]; !found || e.compare(old) > 0 {
			all[e.Name] = e
		}
	}
	return all
}

// inForceAt returns the entries in force at a time, by their names. The map is nil if there are none.
func (t table) inForceAt(at time.Time) (all map[string]Entry) {
	for name, w := range t.winners() {
		if w.expired(toMillis(at)) {
			continue
		}
		if all == nil {
			all = map[string]Entry{}
		}
		all[name] = w.public()
	}
	return all
}

func (e entry) public() Entry {
	return Entry{Value: e.Value, Until: fromMillis(e.Until), Reason: e.Reason, At: fromMillis(e.At), Host: e.Host, PID: e.PID}
}

// prune returns the table within the limits, at this moment. No process can be left out, since a table has none.
func (t table) prune(string) table { return t.pruneAt(now()) }

// pruneAt makes the entries gone that have expired long ago, and the entries that are too many: first entries that have lost,
// then expired entries, and of each kind the smallest ids first. So an entry that has lost never comes back. Of the ids that are
// gone, the table keeps the greatest.
func (t table) pruneAt(at int64) table {
	winners := t.winners()
	t = t.drop(func(e entry) bool { return winners[e.Name].expired(at - keepExpired) })
	tooMany := len(t.Entries) - maxEntries
	for _, spare := range []func(entry) bool{
		func(e entry) bool { return winners[e.Name] != e },
		func(e entry) bool { return e.expired(at) },
		func(entry) bool { return true },
	} {
		t = t.drop(func(e entry) bool {
			if tooMany <= 0 || !spare(e) {
				return false
			}
			tooMany--
			return true
		})
	}
	if tooMany := len(t.Gone) - maxGone; tooMany > 0 {
		t.Floor, t.Gone = t.Gone[tooMany-1], slices.Clone(t.Gone[tooMany:])
	}
	return t
}

func (t table) equal(other table) bool {
	return t.Floor == other.Floor && t.Since == other.Since && t.Cleared == other.Cleared &&
		slices.Equal(t.Entries, other.Entries) && slices.Equal(t.Gone, other.Gone)
}
