package killswitch

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/midair-go/midair/internal/kept"
	"github.com/midair-go/midair/internal/statefile"
)

// id returns the id of an entry, with a number and one random digit.
func id(number int, random int) string { return fmt.Sprintf("%012x%016x", number, random) }

// Generate returns a table of few ids, names and numbers, so that two tables often have something in common. Two tables may
// tell different things about the same entry, as no two processes do: the merge has to end in one table even so.
func (table) Generate(r *rand.Rand, _ int) reflect.Value {
	var t table
	if r.Intn(3) == 0 {
		t.Floor = id(1+r.Intn(4), r.Intn(2))
	}
	var gone []string
	for number := range 5 {
		for random := range 2 {
			switch r.Intn(4) {
			case 0:
				t.Entries = append(t.Entries, entry{
					ID: id(number+1, random), Name: []string{"a", "b"}[r.Intn(2)], Value: []string{"on", "off"}[r.Intn(2)],
					At: int64(r.Intn(3)), Until: int64(r.Intn(3)), PID: r.Intn(2),
				})
			case 1:
				gone = append(gone, id(number+1, random))
			}
		}
	}
	if r.Intn(2) == 0 {
		t.Cleared = clearing{Count: uint64(r.Intn(3)), Name: []string{"a", "b"}[r.Intn(2)], event: event{At: int64(r.Intn(2)), Reason: "r"}}
	}
	return reflect.ValueOf(t.forget(gone))
}

// Tables may arrive in any order, in any grouping and more than once. What is merged is never changed, and comes back from its
// bytes as it was.
func TestMergeOfTablesIgnoresOrderAndRepetition(t *testing.T) {
	for name, property := range map[string]any{
		"commutative": func(a, b table) bool { return a.merge(b).equal(b.merge(a)) },
		"associative": func(a, b, c table) bool { return a.merge(b).merge(c).equal(a.merge(b.merge(c))) },
		"idempotent": func(a, b table) bool {
			ab := a.merge(b)
			return a.merge(a).equal(a) && ab.merge(b).equal(ab) && ab.merge(a).equal(ab)
		},
		"pure": func(a, b table) bool {
			before, other := string(a.encode()), string(b.encode())
			a.merge(b)
			a.set(entry{ID: a.nextID("0000000000000000"), Name: "a"})
			a.clear("a", event{At: 9})
			a.pruneAt(9)
			return string(a.encode()) == before && string(b.encode()) == other
		},
		"bytes": func(a table) bool { b, err := table{}.decode(a.encode()); return err == nil && b.equal(a) },
		"next":  func(a, b table) bool { next := a.nextID("0000000000000000"); return !a.has(next) && !a.gone(next) },
		"parts": func(a, b table) bool { return mergeAll(b, a.parts(500, ""), 0, 1).equal(b.merge(a)) },
	} {
		if err := quick.Check(property, &quick.Config{MaxCount: rounds(1000, 200), Rand: rand.New(rand.NewSource(rand.Int63()))}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// mergeAll merges parts into a table: all of them, beginning with part number first, in steps.
func mergeAll(into table, parts [][]byte, first, step int) table {
	for i := range parts {
		part, err := table{}.decode(parts[(first+i*step)%len(parts)])
		if err != nil {
			panic(err)
		}
		into = into.merge(part)
	}
	return into
}

// A books is a model of a process: the entries that it knows, and the ids of those that it knows to be gone.
type books struct {
	made map[string]entry
	gone map[string]bool
}

func newBooks() books { return books{map[string]entry{}, map[string]bool{}} }

func (b books) merge(other books) {
	maps.Copy(b.made, other.made)
	maps.Copy(b.gone, other.gone)
}

func (b books) copy() books { c := newBooks(); c.merge(b); return c }

func (b books) drop(name string) {
	for id, e := range b.made {
		if e.Name == name {
			b.gone[id] = true
		}
	}
}

// inForce is the value of each name: of the entries that are not gone the one with the latest time, and then the greatest id.
func (b books) inForce(at int64) map[string]string {
	last := map[string]entry{}
	for id, e := range b.made {
		if old, found := last[e.Name]; !b.gone[id] && (!found || e.At > old.At || e.At == old.At && id > old.ID) {
			last[e.Name] = e
		}
	}
	values := map[string]string{}
	for name, e := range last {
		if e.Until == 0 || e.Until > at {
			values[name] = e.Value
		}
	}
	return values
}

func values(t table, at int64) map[string]string {
	all := map[string]string{}
	for name, en := range t.inForceAt(time.UnixMilli(at)) {
		all[name] = en.Value
	}
	return all
}

// A fake is a process of a model: a table, and what the model says of the process.
type fake struct {
	table table
	books books
}

func (f fake) copy() fake { return fake{f.table, f.books.copy()} }

func (f *fake) merge(other fake) {
	f.table = f.table.merge(other.table)
	f.books.merge(other.books)
}

// Processes set, clear, receive tables of each other (late, twice, in any order, or never), write and read a file, and die. Their
// clocks are wrong by more than the whole test takes. Each name has the value that its process knows as the last, and a clearing
// clears what its process knew.
func TestEachProcessHasTheLastValueThatItKnows(t *testing.T) {
	for seed := range int64(rounds(150, 30)) {
		r := rand.New(rand.NewSource(seed))
		all, sent, file := make([]fake, 4), []fake{}, fake{books: newBooks()}
		for i := range all {
			all[i].books = newBooks()
		}
		for step := range 150 {
			i := r.Intn(len(all))
			p, name := &all[i], []string{"a", "b", "c"}[r.Intn(3)]
			at := int64(step + 1000*i)
			switch r.Intn(9) {
			case 0, 1:
				e := entry{ID: p.table.nextID(fmt.Sprintf("%016x", 10*step+i)), Name: name, Value: fmt.Sprint(seed, step), At: at}
				if r.Intn(3) == 0 {
					e.Until = int64(r.Intn(150))
				}
				if p.books.made[e.ID].ID != "" {
					t.Fatalf("seed %d, step %d: the id %s was there already", seed, step, e.ID)
				}
				p.table = p.table.set(e)
				p.books.drop(name)
				p.books.made[e.ID] = e
			case 2:
				p.table = p.table.clear(name, event{At: at})
				p.books.drop(name)
			case 3:
				sent = append(sent, p.copy())
			case 4: // a write
				p.merge(file)
				file = p.copy()
			case 5: // a kill -9, and a start
				*p = file.copy()
			default:
				if len(sent) > 0 {
					p.merge(sent[r.Intn(len(sent))])
				}
			}
			if got, want := values(p.table, int64(step)), p.books.inForce(int64(step)); !maps.Equal(got, want) {
				t.Fatalf("seed %d, step %d: %v, want %v: %+v", seed, step, got, want, p.table)
			}
		}
	}
}

// A table remembers the last 256 entries that are gone, and Floor for the others. Whatever old table comes, an entry that was
// gone never comes back, and what is in force stays.
func TestWhatIsGoneNeverComesBack(t *testing.T) {
	for seed := range int64(rounds(2, 1)) {
		r := rand.New(rand.NewSource(seed))
		var s table
		old, gone := []table{s}, map[string]bool{}
		for step := range 1000 {
			before := values(s, int64(step))
			name := fmt.Sprint(r.Intn(100))
			switch r.Intn(5) {
			case 0:
				before = nil
				s = s.clear(name, event{At: int64(step)})
			case 1:
				other := old[r.Intn(len(old))]
				if r.Intn(20) > 0 {
					s = s.merge(other)
				} else {
					s = mergeAll(s, other.parts(4000, ""), r.Intn(10), 1)
				}
			default:
				before = nil
				s = s.set(entry{ID: s.nextID(fmt.Sprintf("%016x", step)), Name: name, Value: fmt.Sprint(step), At: r.Int63n(2000)})
			}
			s = s.pruneAt(int64(step))
			if before != nil && !maps.Equal(values(s, int64(step)), before) {
				t.Fatalf("seed %d, step %d: an old table has changed what is in force", seed, step)
			}
			for _, e := range s.Entries {
				if gone[e.ID] {
					t.Fatalf("seed %d, step %d: %+v is back", seed, step, e)
				}
			}
			for _, e := range old[len(old)-1].Entries {
				gone[e.ID] = gone[e.ID] || !s.has(e.ID)
			}
			if len(s.Entries) > maxEntries || len(s.Gone) > maxGone {
				t.Fatalf("seed %d, step %d: %d entries, %d gone", seed, step, len(s.Entries), len(s.Gone))
			}
			old = append(old, s)
		}
		if s.Floor == "" {
			t.Error("the test has not come to the limits")
		}
	}
}

// Of too many entries those go first that have lost, then the expired ones, then the old ones: an entry that has lost never comes
// into force because the winner is left out.
func TestPruningBeginsWithWhatIsNotInForce(t *testing.T) {
	const at = 1 << 40
	var s table
	add := func(name string, time, until int64) {
		s.Entries = append(s.Entries, entry{ID: s.nextID("0000000000000000"), Name: name, At: time, Until: until})
	}
	for i := range 100 {
		add(fmt.Sprint("kept", i), at, 0)
	}
	for i := range 100 { // two entries with a name: the second has lost
		add(fmt.Sprint("expired", i), 2, at-1)
		add(fmt.Sprint("expired", i), 1, 0)
	}
	add("long ago", 1, at-keepExpired)
	add("long ago", 0, 0)
	kinds := func() string {
		counts := map[string]int{}
		for _, e := range s.Entries {
			counts[strings.TrimRight(e.Name, "0123456789")]++
		}
		return fmt.Sprint(counts)
	}
	for round, want := range []string{
		"map[expired:200 kept:100]", "map[expired:184 kept:200]", "map[expired:84 kept:300]", "map[kept:384]", "map[kept:384]",
	} {
		if s = s.pruneAt(at); kinds() != want {
			t.Errorf("%s, want %s", kinds(), want)
		}
		for name := range values(s, at) {
			if !strings.HasPrefix(name, "kept") {
				t.Fatalf("%s has come back", name)
			}
		}
		for i := range 100 {
			add(fmt.Sprint("kept", 100*(round+1)+i), -at, 0)
		}
	}
	if _, found := values(s, at)["kept0"]; found || len(s.Gone) > maxGone || s.Floor == "" {
		t.Errorf("kept0 found: %t; %d are gone, floor %q", found, len(s.Gone), s.Floor)
	}
}

// The layout is a contract with the builds that are in use, and so is what they ignore.
func TestOlderAndNewerBuildsUnderstandEachOthersTables(t *testing.T) {
	const golden = "midair-overrides\x00\x01" + `{"floor":"0000000000010000000000000000","entries":[` +
		`{"id":"0000000000020000000000000000","name":"cart","value":"<on>","until":9,"at":8,"reason":"slow","host":"x","pid":7},` +
		`{"id":"0000000000030000000000000000","name":"pay","value":""}],"gone":["0000000000040000000000000000"],` +
		`"cleared":{"count":2,"name":"pay","at":6,"reason":"mended","host":"y","pid":5},"since":"0000000000000000000000000001"}`
	s := table{
		Floor: id(1, 0), Since: id(0, 1), Gone: []string{id(4, 0)},
		Entries: []entry{
			{ID: id(2, 0), Name: "cart", Value: "<on>", Until: 9, At: 8, Reason: "slow", Host: "x", PID: 7}, {ID: id(3, 0), Name: "pay"},
		},
		Cleared: clearing{Count: 2, Name: "pay", event: event{6, "mended", "y", 5}},
	}
	if got := s.encode(); string(got) != string(tableFormat.Seal([]byte(golden))) {
		t.Errorf("%q", got)
	}
	later := strings.NewReplacer(`{"floor"`, `{"new":{},"floor"`, `{"id"`, `{"new":[1],"id"`, `{"count"`, `{"new":"","count"`).Replace(golden)
	if got, err := (table{}).decode(tableFormat.Seal([]byte(later))); err != nil || !got.equal(s) || later == golden {
		t.Errorf("%+v, %v", got, err)
	}
}

// A table that no process writes is refused. Texts for people that another process could grow without end are cut.
func TestBadTableIsRefused(t *testing.T) {
	seal := func(version byte, body string) []byte {
		f := tableFormat
		f.Version = version
		return f.Seal(append(f.Begin(), body...))
	}
	with := func(entry string) []byte { return seal(1, `{"entries":[{"id":"`+id(1, 1)+`",`+entry+`}]}`) }
	for _, c := range []struct {
		data []byte
		is   error
	}{
		{nil, kept.ErrForeign}, {State{}.encode(), kept.ErrForeign}, {seal(2, `{}`), kept.ErrLater}, {seal(1, ``), kept.ErrDamaged},
		{bytes.Replace(with(`"name":"a","value":"on"`), []byte("on"), []byte("no"), 1), kept.ErrDamaged},
		{with(`"name":"","value":"on"`), kept.ErrDamaged}, {with(`"name":"a\u0000","value":"on"`), kept.ErrDamaged},
		{with(`"name":"a","value":"` + strings.Repeat("x", maxName+1) + `"`), kept.ErrDamaged},
		{seal(1, `{"entries":[{"id":"1","name":"a"}]}`), kept.ErrDamaged}, {seal(1, `{"entries":1}`), kept.ErrDamaged},
		{seal(1, `{"floor":"ffffffffffffffffffffffffffff"}`), kept.ErrDamaged}, // no id would be greater
		{seal(1, `{"since":"`+id(1, 1)+`x"}`), kept.ErrDamaged}, {seal(1, `{"gone":["`+strings.ToUpper(id(10, 1))+`"]}`), kept.ErrDamaged},
		{seal(1, `{"gone":[""]}`), kept.ErrDamaged}, {seal(1, `{"cleared":{"count":18446744073709551615}}`), kept.ErrDamaged},
	} {
		if s, err := (table{}).decode(c.data); !errors.Is(err, c.is) || !s.equal(table{}) {
			t.Errorf("%q: %+v, %v", c.data, s, err)
		}
	}
	long := strings.Repeat("<ä\\n", 1000)
	s, err := (table{}).decode(seal(1, `{"entries":[{"id":"`+id(1, 1)+`","name":"a","host":"`+long+`","reason":"`+long+`"}],"cleared":{"name":"`+long+`"}}`))
	if err != nil || len(s.Entries[0].Host) > maxName || len(s.Entries[0].Reason) > maxText || len(s.Cleared.Name) > maxName ||
		strings.Contains(s.Entries[0].Reason, "\n") {
		t.Errorf("%d bytes, %v", len(s.encode()), err)
	}
	if again, err := (table{}).decode(s.encode()); err != nil || !again.equal(s) {
		t.Errorf("a text changes each time it is received: %v", err)
	}
}

// An entry that a damaged sender lists as set and as gone is gone, in whatever order a table has its entries.
func TestDecodedTableIsInOrder(t *testing.T) {
	data := tableFormat.Seal(append(tableFormat.Begin(), `{"floor":"`+id(2, 0)+`","gone":["`+id(5, 0)+`","`+id(3, 0)+`"],"entries":[{"id":"`+
		id(4, 0)+`","name":"a"},{"id":"`+id(3, 0)+`","name":"a"},{"id":"`+id(1, 0)+`","name":"b"},{"id":"`+id(4, 0)+`","name":"a"}]}`...))
	s, err := table{}.decode(data)
	want := table{Floor: id(2, 0), Gone: []string{id(3, 0), id(5, 0)}, Entries: []entry{{ID: id(1, 0), Name: "b"}, {ID: id(4, 0), Name: "a"}}}
	if err != nil || !s.equal(want) {
		t.Errorf("%+v, %v", s, err)
	}
}

// No bytes can do more than be refused, and what is accepted merges as any table.
func FuzzDecodeTable(f *testing.F) {
	f.Add([]byte(`{"floor":"`+id(2, 0)+`","entries":[{"id":"`+id(3, 0)+`","name":"a"},{"id":"`+id(1, 0)+`","name":"a"}],"gone":["`+id(3, 0)+`"]}`), true)
	f.Add([]byte(`{"since":"`+id(1, 0)+`","cleared":{"count":1,"name":"\u0007"},"entries":[{"id":"`+id(3, 0)+`","name":"a","until":-1}]}`), true)
	f.Add(table{}.set(entry{ID: id(1, 1), Name: "a", Value: "on"}).encode(), false)
	f.Fuzz(func(t *testing.T, data []byte, wrap bool) {
		if wrap {
			data = tableFormat.Seal(append(tableFormat.Begin(), data...))
		}
		s, err := table{}.decode(data)
		if err != nil {
			return
		}
		again, err := table{}.decode(s.encode())
		if err != nil || !again.equal(s) || !s.merge(s).merge(s).equal(s.merge(s)) {
			t.Errorf("%+v became %+v, %v", s, again, err)
		}
		whole := table{}.merge(s)
		next := whole.nextID("0000000000000000")
		if !mergeAll(table{}, whole.parts(1000, ""), 0, 1).equal(whole) || !validID(next) || whole.has(next) || whole.gone(next) {
			t.Errorf("%+v, next id %s", whole, next)
		}
		if p := whole.pruneAt(5); len(p.Entries) > maxEntries || len(p.Gone) > maxGone || !p.pruneAt(5).equal(p) {
			t.Errorf("%d entries, %d gone", len(p.Entries), len(p.Gone))
		}
	})
}

// worstTable is as large as a table can be. Every character is one that JSON makes longer.
func worstTable() (s table) {
	text := func(n int) string { return strings.Repeat(`"`, n) }
	for i := range maxEntries {
		s.Entries = append(s.Entries, entry{
			ID: id(1000*i+1, 1), Name: fmt.Sprintf("%03d", i) + text(maxName-3), Value: text(maxName), Until: 1 << 50, At: 1 << 50,
			Reason: text(maxText), Host: text(maxName), PID: 1 << 22,
		})
	}
	for i := range maxGone {
		s.Gone = append(s.Gone, id(1500*i+2, 1))
	}
	s.Floor = id(0, 1)
	s.Cleared = clearing{Count: maxCount, Name: text(maxName), event: event{1 << 50, text(maxText), text(maxName), 1 << 22}}
	return s
}

// The largest table fits into its file, and goes out in parts that a broadcast can carry. Together, in their order, they are the
// table. In any other order they have the same entries and the same entries gone.
func TestPartsOfALargeTableFitIntoBroadcasts(t *testing.T) {
	worst := worstTable()
	if n := len(worst.encode()); n > statefile.MaxSize || n < statefile.MaxSize*3/4 {
		t.Errorf("the largest table has %d bytes", n)
	}
	floor := worst
	floor.Floor, floor.Gone = id(200_500, 1), slices.DeleteFunc(slices.Clone(floor.Gone), func(i string) bool { return i < id(200_500, 1) })
	floor.Entries = slices.Clone(floor.Entries)
	for i := range floor.Entries {
		floor.Entries[i].Value, floor.Entries[i].Reason = "on", "small"
	}
	for name, s := range map[string]table{"worst": worst, "floor": floor, "empty": {}, "floor only": {Floor: id(3, 3)}} {
		parts := s.parts(maxMessage, "")
		for _, part := range parts {
			if len(part) > maxMessage {
				t.Errorf("%s: a part has %d bytes", name, len(part))
			}
		}
		if fewest := (len(s.encode())-1)/maxMessage + 1; len(parts) > 2*fewest {
			t.Errorf("%s: %d parts, and %d would do", name, len(parts), fewest)
		}
		if !mergeAll(table{}, parts, 0, 1).equal(s) {
			t.Errorf("%s: the parts are not the table", name)
		}
		receiver := s // knows entries that are gone, and has one that nobody else knows
		receiver.Floor, receiver.Gone = "", nil
		for number := range 6 {
			receiver.Entries = append(slices.Clone(receiver.Entries), entry{ID: id(150*number*number+1, 7), Name: fmt.Sprint(number)})
		}
		receiver = table{}.merge(receiver)
		want := receiver.merge(s)
		for _, first := range []int{0, len(parts) / 2, len(parts) - 1} {
			got := mergeAll(receiver, parts, first, len(parts)-1) // the last part first
			if !slices.Equal(got.Entries, want.Entries) {
				t.Fatalf("%s: parts from number %d on: %d entries, want %d", name, first, len(got.Entries), len(want.Entries))
			}
			if fresh := mergeAll(table{}, parts, first, len(parts)-1); !slices.Equal(fresh.Entries, s.Entries) {
				t.Fatalf("%s: a new process with parts from number %d on: %d entries", name, first, len(fresh.Entries))
			}
			if again := mergeAll(got, parts, 0, 1); !again.equal(want) {
				t.Fatalf("%s: parts from number %d on, and in order: floor %s, want %s", name, first, again.Floor, want.Floor)
			}
		}
	}
}

// The last clearing is shown, also if its clock is behind.
func TestLastClearingIsShown(t *testing.T) {
	first := table{}.clear("a", event{At: 9})
	second := first.clear("b", event{At: 1})
	if first.merge(second).Cleared.Name != "b" || second.merge(first).Cleared.Name != "b" {
		t.Errorf("%+v", first.merge(second))
	}
}
