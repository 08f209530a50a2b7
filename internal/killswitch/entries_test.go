package killswitch

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
)

// openEntries returns entries with a file, which is empty for none.
func openEntries(t testing.TB, path string, broadcast func([]byte) error) *Entries {
	t.Helper()
	e := new(Entries)
	e.Start(Options{Package: "flags", Name: "shop", File: path, Broadcast: broadcast, Logger: quiet})
	return e
}

// text is what is in force now, as "name=value" in the order of the names.
func (e *Entries) text() string {
	all := map[string]string{}
	for name, en := range e.InForce(time.Now()) {
		all[name] = en.Value
	}
	return strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(all), "map["), "]")
}

func wantText(t testing.TB, what string, e *Entries, want string) {
	t.Helper()
	if got := e.text(); got != want || !maps.EqualFunc(e.Status().InForce, e.InForce(time.Now()), func(a, b Entry) bool { return a == b }) {
		t.Errorf("%s: %q, status %+v, want %q", what, got, e.Status(), want)
	}
}

// An entry has what was set, and who has set it, here and in every other process.
func TestEntryHasWhatWasSetAndByWhom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	var zero Entries
	until := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	en := Entry{Value: "off", Until: until, Reason: "slow\n" + strings.Repeat("x", 600), Host: "not this host", PID: 1}
	a, b := openEntries(t, path, nil), openEntries(t, "", nil)
	before := time.Now().Truncate(time.Millisecond)
	must(t, a.Set("cart", en), b.Merge(a.Encode()), zero.Merge(a.Encode()))
	host, _ := os.Hostname()
	for name, e := range map[string]*Entries{"a": a, "b": b, "zero": &zero, "restart": openEntries(t, path, nil)} {
		got := e.InForce(time.Now())["cart"]
		if got.Value != "off" || !got.Until.Equal(until) || got.Host != host || got.PID != os.Getpid() || got.At.Before(before) ||
			len(got.Reason) != maxText || !strings.HasPrefix(got.Reason, "slow xxx") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	must(t, a.Clear("cart", "mended"))
	st := a.Status()
	if st.Cleared != "cart" || st.Reason != "mended" || st.At.Before(before) || st.Host != host || st.PID != os.Getpid() || st.InForce != nil ||
		st.Name != "shop" || st.File != path {
		t.Errorf("%+v", st)
	}
}

// An entry ends by itself, everywhere, and what it has replaced does not come back. Next says when.
func TestEntryEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEntries(t, "", nil)
		if _, found := e.Next(time.Now()); found {
			t.Error("an end of nothing")
		}
		at := time.Now()
		must(t, e.Set("cart", Entry{Value: "on"}), e.Set("cart", Entry{Value: "off", Until: at.Add(time.Minute)}),
			e.Set("pay", Entry{Value: "x", Until: at.Add(time.Second + time.Nanosecond)}), e.Set("ship", Entry{Value: "y"}),
			e.Set("old", Entry{Value: "z", Until: time.Unix(0, 0)}))
		if _, found := e.InForce(at.Add(time.Second))["pay"]; !found {
			t.Error("an entry ends too early")
		}
		for _, want := range []string{"cart=off pay=x ship=y", "cart=off ship=y", "ship=y"} {
			if got := strings.ReplaceAll(e.text(), ":", "="); got != want {
				t.Errorf("after %v: %s, want %s", time.Since(at), got, want)
			}
			next, found := e.Next(time.Now())
			if found != strings.Contains(want, "cart") || found && time.Until(next) <= 0 {
				t.Errorf("after %v: next %v, %t", time.Since(at), next, found)
			}
			if !found {
				continue
			}
			time.Sleep(time.Until(next) - 1) // the fake clock of synctest
			if got := strings.ReplaceAll(e.text(), ":", "="); got != want {
				t.Errorf("before the end: %s, want %s", got, want)
			}
			time.Sleep(time.Nanosecond)
		}
	})
}

// A clock that is behind loses nothing: the last Set wins over those that its process knew. Among Sets at the same time the later
// clock wins, in all processes.
func TestClocksDecideOnlyBetweenSetsAtTheSameTime(t *testing.T) {
	at := func(e *Entries, value string, by time.Duration) {
		id := e.set("cart", Entry{Value: value})
		e.change(here, func(s table) table {
			for i := range s.Entries {
				if s.Entries[i].ID == id {
					s.Entries[i].At += by.Milliseconds()
				}
			}
			return s
		})
	}
	a, b := openEntries(t, "", nil), openEntries(t, "", nil)
	at(a, "ahead", 24*time.Hour)
	must(t, b.Merge(a.Encode()))
	at(b, "behind", -24*time.Hour)
	must(t, a.Merge(b.Encode()))
	wantText(t, "a", a, "cart:behind")
	wantText(t, "b", b, "cart:behind")
	at(a, "early", -time.Hour)
	at(b, "late", 0)
	fromA, fromB := a.Encode(), b.Encode()
	must(t, a.Merge(fromB), b.Merge(fromA))
	wantText(t, "a", a, "cart:late")
	wantText(t, "b", b, "cart:late")
}

// What is set elsewhere at the same time as a clearing stays, whoever receives the other's state first. A second clearing clears
// it.
func TestEntryUnknownToAClearingStays(t *testing.T) {
	a, b, c, d := openEntries(t, "", nil), openEntries(t, "", nil), openEntries(t, "", nil), openEntries(t, "", nil)
	must(t, a.Set("cart", Entry{Value: "one"}), b.Merge(a.Encode()))
	must(t, b.Set("cart", Entry{Value: "two"}), a.Clear("cart", "mended"), a.Clear("nothing", "never set")) // at the same time
	fromA, fromB := a.Encode(), b.Encode()
	must(t, c.Merge(fromB), c.Merge(fromA), d.Merge(fromA), d.Merge(fromB), a.Merge(fromB), b.Merge(fromA))
	for name, e := range map[string]*Entries{"a": a, "b": b, "c": c, "d": d} {
		wantText(t, name, e, "cart:two")
	}
	must(t, c.Clear("cart", "again"), a.Merge(c.Encode()), b.Merge(c.Encode()), a.Merge(fromB))
	wantText(t, "a", a, "")
	wantText(t, "b", b, "")
}

// The same with a file between the two: the clearing finds the entry there, and says so.
func TestClearSaysThatTheFileHasAnotherEntry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	a, b := openEntries(t, path, nil), openEntries(t, path, nil)
	must(t, b.Set("cart", Entry{Value: "off", Reason: "slow"}))
	if err := a.Clear("cart", "mended"); err == nil || !strings.Contains(err.Error(), `"cart" is set to "off" again`) || !strings.Contains(err.Error(), "slow") {
		t.Error(err)
	}
	wantText(t, "a", a, "cart:off")
	must(t, a.Clear("cart", "this one too"))
	wantText(t, "restart", openEntries(t, path, nil), "")
}

// A change is in force and told before anything is sent, and is sent before the file is written. What cannot be sent or written
// is in force all the same, and goes out with the next change or by Publish.
func TestChangeOfEntriesIsInForceThenSentThenInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	var e Entries
	var calls []string
	var fails error
	note := func(call string) { calls = append(calls, call+" "+e.text()) }
	e.Start(Options{
		Package: "flags", Name: "shop", File: path, Logger: quiet, OnChange: func() { note("told") },
		Broadcast: func([]byte) error { note("sent"); return fails },
	})
	e.file = &noting{storage: e.file, note: func() error { note("written"); return fails }}
	for _, fails = range []error{nil, errors.New("no space"), nil} {
		calls = nil
		err := e.Set("cart", Entry{Value: "off"})
		if st := e.Status(); !errors.Is(err, fails) || (st.FileError == "") != (fails == nil) || (st.BroadcastError == "") != (fails == nil) {
			t.Errorf("%v: %v, %+v", fails, err, st)
		}
		if fails != nil && (!strings.HasPrefix(err.Error(), `flags: set of overrides "shop": the change is in force in this process, but the file `+path) ||
			!strings.Contains(err.Error(), "other processes may not know that the change is in force until the next change: broadcast: no space")) {
			t.Error(err)
		}
		if got := strings.Join(calls, ", "); got != "told cart:off, sent cart:off, written cart:off" {
			t.Error(got)
		}
	}
	wantText(t, "restart", openEntries(t, path, nil), "cart:off")
}

// A noting is a file that says when it is written.
type noting struct {
	storage
	note func() error
}

func (n *noting) Update(change func([]byte, error) ([]byte, error)) error {
	return errors.Join(n.note(), n.storage.Update(change))
}

// OnChange is called once for each change, wherever it comes from, and never for nothing. It may ask and change, since no lock is
// held. A panic in OnChange is no panic of the change.
func TestOnChangeIsCalledForEveryChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	other := openEntries(t, path, nil)
	must(t, other.Set("cart", Entry{Value: "one"}))
	told, e := []string{}, new(Entries)
	e.Start(Options{Package: "flags", File: path, Logger: quiet, OnChange: func() {
		told = append(told, e.text())
		if e.InForce(time.Now())["cart"].Value == "once more" {
			must(t, e.Set("cart", Entry{Value: "from OnChange"}))
		}
		if len(told) == 1 {
			panic("nobody is ready")
		}
	}})
	want := func(what, want string) {
		t.Helper()
		if got := strings.Join(told, ", "); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
		told = []string{}
	}
	want("start", "cart:one")
	told = []string{""}
	must(t, e.Publish(), e.Merge(e.Encode()))
	want("nothing", "")
	told = nil
	must(t, other.Set("pay", Entry{Value: "x"}), e.Merge(other.Encode()))
	want("another process", "cart:one pay:x")
	must(t, other.Set("ship", Entry{Value: "y"}), e.Clear("pay", ""))
	want("own, and found in the file", "cart:one, cart:one ship:y")
	told = []string{""}
	must(t, e.Set("cart", Entry{Value: "once more"}))
	want("a change by OnChange", ", cart:once more ship:y, cart:from OnChange ship:y")
}

// A disk that hangs does not delay a change: what the file has is told when the wait is over, and the change is in the file when
// the disk answers.
func TestDiskThatHangsDelaysNoEntry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	must(t, openEntries(t, path, nil).Set("pay", Entry{Value: "x"}))
	synctest.Test(t, func(t *testing.T) {
		for _, hangs := range []string{"before the write", "in the write"} {
			var e Entries
			var told []string
			var sent int
			e.Start(Options{Package: "flags", Logger: quiet, Broadcast: func([]byte) error { sent++; return nil }, OnChange: func() { told = append(told, e.text()) }})
			disk := &hangingInside{hanging{openEntries(t, path, nil).file, make(chan struct{})}}
			e.opts.File = path
			if e.file = disk; hangs == "before the write" {
				e.file = &disk.hanging
			}
			began := time.Now()
			if err := e.Set("cart", Entry{Value: "off"}); !errors.Is(err, errBusy) || time.Since(began) != saveLimit {
				t.Errorf("%s: %v after %v", hangs, err, time.Since(began))
			}
			want := map[string]string{"before the write": "cart:off", "in the write": "cart:off, cart:off pay:x"}[hangs]
			if got := strings.Join(told, ", "); got != want || sent == 0 || !strings.Contains(e.Status().FileError, errBusy.Error()) {
				t.Errorf("%s: %s, sent %d times, %+v", hangs, got, sent, e.Status())
			}
			close(disk.answer)
			synctest.Wait()
			if got := strings.Join(told, ", "); got != "cart:off, cart:off pay:x" || e.Status().FileError != "" {
				t.Errorf("%s: when the disk answers: %s, %+v", hangs, got, e.Status())
			}
			must(t, e.Publish())
			wantText(t, "restart", openEntries(t, path, nil), "cart:off pay:x")
			must(t, e.Clear("cart", ""))
		}
	})
}

// A hangingInside hangs after the file was read.
type hangingInside struct{ hanging }

func (h *hangingInside) Update(change func([]byte, error) ([]byte, error)) error {
	return h.storage.Update(func(old []byte, err error) ([]byte, error) {
		data, err := change(old, err)
		<-h.answer
		return data, err
	})
}

// A file that cannot be used at the start gives no entries, and Status says why. What comes from elsewhere does not replace the
// file. A change of this process does, also one that changes nothing.
func TestDamagedFileOfEntriesGivesNoneAndIsKept(t *testing.T) {
	good := table{}.set(entry{ID: id(1, 1), Name: "cart", Value: "off"}).encode()
	for name, content := range map[string][]byte{"empty": {}, "cut": good[:len(good)-1], "foreign": State{}.encode()} {
		for change, do := range map[string]func(*Entries) error{
			"set":   func(e *Entries) error { return e.Set("cart", Entry{Value: "on"}) },
			"clear": func(e *Entries) error { return e.Clear("unknown", "looked at") },
		} {
			path := filepath.Join(t.TempDir(), "overrides")
			must(t, os.WriteFile(path, content, 0o600))
			e, other := openEntries(t, path, nil), openEntries(t, "", nil)
			wantText(t, name, e, "")
			must(t, other.Set("pay", Entry{Value: "x"}), e.Merge(other.Encode()), e.Publish2())
			wantText(t, name, e, "pay:x")
			if st := e.Status(); !strings.Contains(st.FileError, "damaged, or is not the file of a set of overrides") {
				t.Errorf("%s: %+v", name, st)
			}
			if e.Set("", Entry{}) == nil {
				t.Error("a Set without a name")
			}
			if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, content) {
				t.Errorf("%s: the file was replaced: %q, %v", name, data, err)
			}
			must(t, do(e))
			want := map[string]string{"set": "cart:on pay:x", "clear": "pay:x"}[change]
			wantText(t, name+", "+change, openEntries(t, path, nil), want)
			if st := e.Status(); st.FileError != "" {
				t.Errorf("%s: %+v", name, st)
			}
		}
	}
}

// Publish2 is Publish without the error about a file that is kept.
func (e *Entries) Publish2() error { _ = e.Publish(); return nil }

// A directory that is gone costs nothing but the file, and so does a directory that nobody may write to.
func TestEntriesWithoutADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	path := filepath.Join(dir, "overrides")
	e := openEntries(t, path, nil)
	if err := e.Set("cart", Entry{Value: "off"}); !errors.Is(err, fs.ErrNotExist) || e.Status().FileError != err.Error() {
		t.Errorf("%v, %+v", err, e.Status())
	}
	wantText(t, "gone", e, "cart:off")
	must(t, os.Mkdir(dir, 0o700), e.Publish())
	wantText(t, "back", openEntries(t, path, nil), "cart:off")
}

// What cannot be stored is refused, and changes nothing: a text that was cut would name something else. 256 names are possible,
// and expired ones take no room.
func TestSetRefusesWhatCannotBeStored(t *testing.T) {
	e := openEntries(t, "", nil)
	for _, c := range []struct{ name, value, why string }{
		{"", "on", "needs a name"}, {strings.Repeat("x", 257), "on", "it has 257 bytes, and at most 256 are possible"},
		{"a\x00", "on", "control"}, {"\xff", "on", "UTF-8"}, {"a", strings.Repeat("x", 257), "257 bytes"}, {"a", "\n", "control"},
	} {
		if err := e.Set(c.name, Entry{Value: c.value}); err == nil || !strings.HasPrefix(err.Error(), `flags: set of overrides "shop": `) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%.10q, %.10q: %v", c.name, c.value, err)
		}
	}
	long := strings.Repeat("x", 256)
	must(t, e.Set(long, Entry{Value: long}))
	if e.Clear(long+"y", "another name") == nil || e.text() == "" {
		t.Error("the clearing of a name has cleared another name")
	}
	for i := range 255 {
		must(t, e.Set(fmt.Sprint(i), Entry{}))
	}
	before := e.Encode()
	if err := e.Set("too many", Entry{}); err == nil || !strings.Contains(err.Error(), "256 names are set") || !bytes.Equal(e.Encode(), before) {
		t.Error(err)
	}
	must(t, e.Set("7", Entry{Until: time.Unix(1, 0)}), e.Set("has room", Entry{}))
	other := openEntries(t, "", nil)
	for i := range 256 {
		must(t, other.Set(fmt.Sprint("other", i), Entry{}))
	}
	must(t, e.Merge(other.Encode()), other.Merge(e.Encode()))
	if n := len(e.InForce(time.Now())); n != maxEntries || !bytes.Equal(e.Encode(), other.Encode()) {
		t.Errorf("%d entries of two processes at the same time", n)
	}
}

// A process that missed more changes than a table remembers sets an entry all the same.
func TestSetAfterManyUnknownChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	a, b := openEntries(t, path, nil), openEntries(t, "", nil)
	for i := range 2 * maxGone {
		b.set("cart", Entry{Value: fmt.Sprint(i)})
	}
	must(t, os.WriteFile(path, b.Encode(), 0o600), a.Set("cart", Entry{Value: "off"}), b.Merge(a.Encode()))
	wantText(t, "a", a, "cart:off")
	wantText(t, "b", b, "cart:off")
	wantText(t, "restart", openEntries(t, path, nil), "cart:off")
}

// Each change is a line, with the reason and with who has made it. What changes nothing is no line, and a large change is not
// many.
func TestEachChangeOfEntriesIsLogged(t *testing.T) {
	var log bytes.Buffer
	logger := logqueue.Wrap(slog.New(slog.NewTextHandler(&log, nil)))
	path := filepath.Join(t.TempDir(), "overrides")
	e, other := new(Entries), openEntries(t, path, nil)
	e.Start(Options{Package: "flags", Name: "shop", File: path, Logger: logger})
	lines := func(what string, number int, want ...string) {
		t.Helper()
		logqueue.Flush(logger)
		got := log.String()
		log.Reset()
		for _, part := range want {
			if !strings.Contains(got, part) || strings.Count(got, "\n") != number {
				t.Errorf("%s: %q does not say %q in %d lines", what, got, part, number)
			}
		}
	}
	until := time.Now().Add(time.Hour)
	must(t, e.Publish(), e.Set("cart", Entry{Value: "off", Reason: "slow", Until: until}))
	lines("set", 1, "level=WARN", `"flags: an override is set"`, "name=shop", "reason=slow", "from=here", "override=cart", "value=off", "until=")
	must(t, other.Set("pay", Entry{Value: "x"}), e.Merge(other.Encode()), e.Merge(other.Encode()))
	lines("another process", 1, "override=pay", `from="another process"`)
	must(t, other.Clear("pay", "mended"), e.Merge(other.Encode()))
	lines("clear", 1, "level=INFO", `"flags: an override is cleared"`, "override=pay", "reason=mended")
	for i := range 30 {
		other.set(fmt.Sprint(i), Entry{})
	}
	must(t, e.Merge(other.Encode()))
	lines("many", maxLines+1, "more=10")
	must(t, os.WriteFile(path, nil, 0o600))
	new(Entries).Start(Options{Package: "flags", Name: "shop", File: path, Logger: logger})
	lines("damaged", 1, "level=ERROR", `"flags: the file of overrides cannot be used"`, "damaged", path)
	must(t, e.Set("cart", Entry{Value: "off"}))
	lines("replaced", 2, `"flags: the file of a set of overrides is replaced"`)
}

// A state is sent in parts of at most 16 KiB, and an entry that only the file knows is sent too.
func TestEntriesReachOtherProcessesInParts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	b := openEntries(t, "", nil)
	parts := 0
	a := openEntries(t, path, func(data []byte) error {
		if parts++; len(data) > maxMessage {
			t.Errorf("%d bytes", len(data))
		}
		return b.Merge(data)
	})
	must(t, openEntries(t, path, nil).Set("file", Entry{Value: "its broadcast is lost"}))
	for i := range 100 {
		a.set(fmt.Sprint(i), Entry{Value: strings.Repeat("x", 256), Reason: strings.Repeat("y", 512)})
	}
	must(t, a.Clear("7", "mended"))
	if _, found := b.InForce(time.Now())["file"]; parts < 5 || b.text() != a.text() || !found {
		t.Errorf("%d parts, %s", parts, b.text())
	}
}

// All of it at once, and in the end all processes know the same.
func TestAllEntriesAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overrides")
	var a, b *Entries
	a = openEntries(t, path, func(data []byte) error { return b.Merge(data) })
	b = openEntries(t, path, func(data []byte) error { return a.Merge(data) })
	var all sync.WaitGroup
	for _, e := range []*Entries{a, b} {
		for _, do := range []func(){
			func() { must(t, e.Set("cart", Entry{Value: "off"})) }, func() { must(t, e.Set("pay", Entry{Until: time.Now()})) },
			func() { _ = e.Clear("cart", "mended") }, func() { e.Status(); e.InForce(time.Now()); e.Next(time.Now()); e.Encode() },
		} {
			all.Go(func() {
				for range 10 {
					do()
				}
			})
		}
	}
	all.Wait()
	must(t, a.Set("cart", Entry{Value: "last"}), b.Publish())
	for name, e := range map[string]*Entries{"a": a, "b": b, "restart": openEntries(t, path, nil)} {
		wantText(t, name, e, "cart:last")
	}
}

// What an evaluation pays as long as nothing is set.
func TestInForceOfNothingAllocatesNothing(t *testing.T) {
	e := openEntries(t, "", nil)
	if n := testing.AllocsPerRun(100, func() { e.InForce(time.Time{}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
