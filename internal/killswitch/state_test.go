package killswitch

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"reflect"
	"strings"
	"testing"
	"testing/quick"

	"github.com/midair-go/midair/internal/kept"
)

// Generate returns a state of few writers, numbers and texts, so that two states often have something in common. Two states may
// tell different things about the same kill, as no two processes do: the merge has to end in one state even so.
func (State) Generate(r *rand.Rand, _ int) reflect.Value {
	pick := func(texts ...string) string { return texts[r.Intn(len(texts))] }
	mk := func() mark {
		made := uint64(r.Intn(4))
		if made == 0 {
			return mark{}
		}
		return mark{Made: made, Cleared: uint64(r.Intn(int(made) + 1)), At: int64(r.Intn(3)), Reason: pick("", "a", "b")}
	}
	var s State
	for _, id := range []string{"1", "2", "3", "4"} {
		if r.Intn(2) == 0 {
			s.Writers = append(s.Writers, writer{ID: id, Host: pick("", "x", "y"), PID: r.Intn(3), Kill: mk(), Latch: mk()})
		}
	}
	if r.Intn(2) == 0 {
		s.Revived = event{At: int64(r.Intn(3)), Reason: pick("", "a", "b"), Host: pick("x", "y"), PID: r.Intn(3)}
	}
	return reflect.ValueOf(s)
}

// States may arrive in any order, in any grouping and more than once. What is merged is never changed, and comes back from its
// bytes as it was.
func TestMergeIgnoresOrderAndRepetition(t *testing.T) {
	for name, property := range map[string]any{
		"commutative": func(a, b State) bool { return a.merge(b).equal(b.merge(a)) },
		"associative": func(a, b, c State) bool { return a.merge(b).merge(c).equal(a.merge(b.merge(c))) },
		"idempotent": func(a, b State) bool {
			ab := a.merge(b)
			return a.merge(a).equal(a) && ab.merge(b).equal(ab) && ab.merge(a).equal(ab)
		},
		"pure": func(a, b State) bool {
			before, other := string(a.encode()), string(b.encode())
			a.merge(b)
			a.revive(event{At: 9})
			a.kill(writer{ID: "1"}, 9, "")
			return string(a.encode()) == before && string(b.encode()) == other
		},
		"bytes": func(a State) bool { b, err := decode(a.encode()); return err == nil && b.equal(a) },
	} {
		if err := quick.Check(property, &quick.Config{MaxCount: rounds(5000, 500), Rand: rand.New(rand.NewSource(rand.Int63()))}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A model of a switch: the sets of the kills and latches that a process knows, and of those that it knows to be revived.
type model struct{ made, cleared map[string]bool }

func newModel() model { return model{map[string]bool{}, map[string]bool{}} }

func (m model) copy() model { c := newModel(); c.merge(m); return c }

func (m model) merge(other model) {
	for tag := range other.made {
		m.made[tag] = true
	}
	for tag := range other.cleared {
		m.cleared[tag] = true
	}
}

// open lists the tags with a prefix that are not cleared.
func (m model) open(prefix string) (tags []string) {
	for tag := range m.made {
		if strings.HasPrefix(tag, prefix) && !m.cleared[tag] {
			tags = append(tags, tag)
		}
	}
	return tags
}

func (m model) word() Word {
	switch {
	case len(m.open("kill")) > 0:
		return Killed
	case len(m.open("latch")) > 0:
		return Latched
	}
	return Open
}

// Processes kill, latch, revive, and receive states of each other: late, twice, in any order, or never. Each one is killed
// exactly if it knows a kill that no revival it knows has cleared, and a revival clears what its process knew.
func TestRevivalClearsExactlyWhatWasKnown(t *testing.T) {
	type process struct {
		state State
		model model
	}
	for seed := range int64(rounds(300, 60)) {
		r := rand.New(rand.NewSource(seed))
		all, sent := make([]process, 4), []process{}
		for i := range all {
			all[i].model = newModel()
		}
		for step := range 120 {
			i := r.Intn(len(all))
			p, me := &all[i], writer{ID: fmt.Sprint(i)}
			tag := fmt.Sprintf("%d %d", i, step)
			switch r.Intn(6) {
			case 0:
				p.state = p.state.kill(me, int64(step), "")
				p.model.made["kill "+tag] = true
			case 1:
				p.state = p.state.latch(me, int64(step), "")
				if len(p.model.open(fmt.Sprintf("latch %d ", i))) == 0 {
					p.model.made["latch "+tag] = true
				}
			case 2:
				p.state = p.state.revive(event{At: int64(step)})
				for tag := range p.model.made {
					p.model.cleared[tag] = true
				}
			case 3:
				sent = append(sent, process{p.state, p.model.copy()})
			default:
				if len(sent) > 0 {
					m := sent[r.Intn(len(sent))]
					p.state = p.state.merge(m.state)
					p.model.merge(m.model)
				}
			}
			if got, want := p.state.Word(), p.model.word(); got != want {
				t.Fatalf("seed %d, step %d: %v, want %v: %+v", seed, step, got, want, p.state)
			}
		}
	}
}

// A state has at most 64 writers. What is left out never changes the word, and what comes back of it can kill and cannot revive.
func TestPrunedStateIsNeverRevivedByAnOldOne(t *testing.T) {
	for seed := range int64(rounds(50, 10)) {
		r := rand.New(rand.NewSource(seed))
		me := writer{ID: "me"}
		var s State
		old := []State{s}
		for step := range 400 {
			before := s
			switch n := r.Intn(200); {
			case n == 0:
				s = s.revive(event{At: int64(step)})
			case n < 10:
				s = s.kill(me, int64(step), "")
			case n < 110:
				s = s.kill(writer{ID: fmt.Sprint(step)}, int64(step), "")
			case n < 150:
				s = s.latch(writer{ID: fmt.Sprint(step)}, int64(step), "")
			default:
				s = s.merge(old[r.Intn(len(old))])
				if s.prune(me.ID).Word() < before.Word() {
					t.Fatalf("seed %d, step %d: an old state has made %v of %v", seed, step, s.Word(), before.Word())
				}
			}
			pruned := s.prune(me.ID)
			if pruned.Word() != s.Word() || len(pruned.Writers) > maxWriters || own(pruned) != own(s) {
				t.Fatalf("seed %d, step %d: %v of %v, %d writers", seed, step, pruned.Word(), s.Word(), len(pruned.Writers))
			}
			s = pruned
			old = append(old, s)
		}
	}
}

// own is the entry of the writer "me".
func own(s State) (me writer) {
	for _, w := range s.Writers {
		if w.ID == "me" {
			return w
		}
	}
	return me
}

// Of too many writers those go first who have nothing in force, the oldest first.
func TestPruningBeginsWithWhatIsRevivedAndOld(t *testing.T) {
	var s State
	for i := range 40 {
		s = s.kill(writer{ID: fmt.Sprint("old", i)}, int64(i), "")
	}
	s = s.revive(event{At: 40})
	for i := range 30 {
		s = s.latch(writer{ID: fmt.Sprint("latch", i)}, int64(i), "")
	}
	s = s.kill(writer{ID: "kill"}, 0, "").prune("old0")
	var names []string
	for _, w := range s.Writers {
		names = append(names, w.ID)
	}
	text := strings.Join(names, " ") + " "
	if len(names) != 64 || strings.Count(text, "latch") != 30 || !strings.Contains(text, "kill ") || !strings.Contains(text, "old0 ") ||
		!strings.Contains(text, "old39 ") || !strings.Contains(text, "old8 ") || strings.Contains(text, "old7 ") {
		t.Errorf("kept: %s", text)
	}
}

// What is shown is the last of the strongest: a kill before a latch, and the last revival when everything is revived.
func TestTheLastOfTheStrongestIsShown(t *testing.T) {
	a, b := writer{ID: "a", Host: "x", PID: 1}, writer{ID: "b", Host: "y", PID: 2}
	s := State{}.kill(a, 1, "first").kill(b, 2, "second").latch(a, 3, "third")
	check := func(s State, word Word, want event) {
		t.Helper()
		if w, e := s.current(); w != word || e != want {
			t.Errorf("%v, %+v, want %v, %+v", w, e, word, want)
		}
	}
	check(s, Killed, event{2, "second", "y", 2})
	later := event{5, "mended", "z", 3}
	check(s.revive(later), Open, later)
	check(s.revive(later).latch(b, 6, "again"), Latched, event{6, "again", "y", 2})
	check(State{}, Open, event{})
	check(s.revive(later).revive(event{At: 4}), Open, later)
}

// The layout is a contract with the builds that are in use, and so is what they ignore.
func TestOlderAndNewerBuildsUnderstandEachOther(t *testing.T) {
	const golden = "midair-kill\x00\x01" + `{"writers":[` +
		`{"id":"a","host":"x","pid":7,"kill":{"made":2,"cleared":1,"at":1700000000000,"reason":"slow"}},` +
		`{"id":"b","latch":{"made":1,"at":5}}],"revived":{"at":9,"reason":"mended","host":"y","pid":8}}`
	s := State{
		Writers: []writer{
			{ID: "a", Host: "x", PID: 7, Kill: mark{2, 1, 1700000000000, "slow"}}, {ID: "b", Latch: mark{Made: 1, At: 5}},
		},
		Revived: event{9, "mended", "y", 8},
	}
	if got := s.encode(); string(got) != string(format.Seal([]byte(golden))) {
		t.Errorf("%q", got)
	}
	later := strings.Replace(golden, `{"writers":[{`, `{"new":{},"writers":[{"pause":{"made":1},`, 1)
	if got, err := decode(format.Seal([]byte(later))); err != nil || !got.equal(s) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A state that no process writes is refused. One that another process could grow without end is cut.
func TestBadStateIsRefused(t *testing.T) {
	seal := func(version byte, body string) []byte {
		f := format
		f.Version = version
		return f.Seal(append(f.Begin(), body...))
	}
	for _, c := range []struct {
		data []byte
		is   error
	}{
		{nil, kept.ErrForeign}, {[]byte("{}"), kept.ErrForeign}, {seal(2, `{}`), kept.ErrLater}, {seal(1, ``), kept.ErrDamaged},
		{seal(1, `{"writers":[{"id":"a","kill":{"made":1,"cleared":2}}]}`), kept.ErrDamaged}, // would revive what is not killed yet
		{seal(1, `{"writers":[{"id":"a","latch":{"made":18446744073709551615}}]}`), kept.ErrDamaged},
		{seal(1, `{"writers":[{"kill":{"made":1}}]}`), kept.ErrDamaged}, {seal(1, `{"writers":1}`), kept.ErrDamaged},
		{bytes.Replace(seal(1, `{"revived":{"at":1}}`), []byte("at"), []byte("it"), 1), kept.ErrDamaged},
	} {
		if s, err := decode(c.data); !errors.Is(err, c.is) || !s.equal(State{}) {
			t.Errorf("%q: %+v, %v", c.data, s, err)
		}
	}
	long := strings.Repeat("\xff<ä", 1000)
	s, err := decode(seal(1, `{"writers":[{"id":"a","host":"`+long+`","kill":{"made":1,"reason":"`+long+`"}}],"revived":{"reason":"`+long+`"}}`))
	if err != nil || len(s.Writers[0].Host) > maxText || len(s.Writers[0].Kill.Reason) > maxText || len(s.Revived.Reason) > maxText {
		t.Errorf("%d bytes, %v", len(s.encode()), err)
	}
	if r := clean(long); clean(r) != r {
		t.Error("a reason changes each time it is received")
	}
}

// No bytes can do more than be refused, and what is accepted merges as any state.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"writers":[{"id":"b","kill":{"made":1}},{"id":"a"},{"id":"b","kill":{"made":2,"cleared":1}}]}`), true)
	f.Add(State{}.kill(writer{ID: "a"}, 1, "r").encode(), false)
	f.Fuzz(func(t *testing.T, data []byte, wrap bool) {
		if wrap {
			data = format.Seal(append(format.Begin(), data...))
		}
		s, err := decode(data)
		if err != nil {
			return
		}
		again, err := decode(s.encode())
		if err != nil || !again.equal(s) || !s.merge(s).equal(s) || s.prune("").Word() != s.Word() {
			t.Errorf("%+v became %+v, %v", s, again, err)
		}
	})
}

// The largest state goes out in parts that a broadcast can carry, and together they are the state. The first part has the
// change that was just made.
func TestPartsOfALargeStateFitIntoBroadcasts(t *testing.T) {
	worst := strings.Repeat("\x01", maxText) // six bytes each in JSON
	var s State
	for i := range maxWriters {
		w := writer{ID: fmt.Sprintf("%016x", i), Host: worst, PID: 1 << 22}
		s = s.kill(w, 1<<50, worst).latch(w, 1<<50, worst)
	}
	s = s.revive(event{At: 1 << 50, Reason: worst, Host: worst, PID: 1 << 22})
	own := writer{ID: fmt.Sprintf("%016x", 40), Host: worst}
	s = s.kill(own, 1<<51, worst)
	var got State
	for i, part := range s.parts(maxMessage, own.ID) {
		if len(part) > maxMessage {
			t.Errorf("a part has %d bytes", len(part))
		}
		other, err := decode(part)
		if err != nil {
			t.Fatal(err)
		}
		if got = got.merge(other); i == 0 && got.Word() != Killed {
			t.Error("the kill is not in the first part")
		}
	}
	if !got.equal(s) {
		t.Error("the parts are not the state")
	}
	if n := len((State{}).parts(maxMessage, "")); n != 1 {
		t.Errorf("%d parts of an empty state", n)
	}
	if n := len((State{}).kill(own, 1, "bad").latch(writer{ID: "a"}, 1, "slow").parts(maxMessage, "")); n != 1 {
		t.Errorf("%d parts of a small state", n)
	}
}

// rounds is how often a test repeats its work: less often in a run with -short.
func rounds(full, short int) int {
	if testing.Short() {
		return short
	}
	return full
}
