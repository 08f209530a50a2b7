package killswitch

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/statefile"
)

var quiet = slog.New(slog.DiscardHandler)

// open returns a switch with a file, which is empty for none.
func open(t testing.TB, path string, broadcast func([]byte) error) *Switch {
	t.Helper()
	s := new(Switch)
	s.Start(Options{Package: "canary", Name: "cart", File: path, Broadcast: broadcast, Logger: quiet})
	return s
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func wantWord(t testing.TB, what string, s *Switch, want Word) {
	t.Helper()
	if got := s.Word(); got != want || s.Status().State != want.String() {
		t.Errorf("%s: %v, status %+v, want %v", what, got, s.Status(), want)
	}
}

// A spy is a file and a broadcast that write down what they do, and that can fail.
type spy struct {
	storage
	s         *Switch
	mu        sync.Mutex
	calls     []string // "file killed": the word in memory when the file is written
	file      error
	broadcast error
}

func (f *spy) note(call string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call+" "+f.s.Word().String())
}

func (f *spy) Update(change func([]byte, error) ([]byte, error)) error {
	f.note("file")
	if f.file != nil {
		return f.file
	}
	return f.storage.Update(change)
}

func (f *spy) send([]byte) error { f.note("broadcast"); return f.broadcast }

func (f *spy) took() (calls []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls, f.calls = f.calls, nil
	return calls
}

func spied(t testing.TB, path string) (*Switch, *spy) {
	f := new(spy)
	f.s = open(t, path, f.send)
	f.storage, f.s.file = f.s.file, f
	return f.s, f
}

// A change is in force before anything is sent, and is sent before the file is written: a slow disk must not delay other
// processes. A restart finds it.
func TestChangeIsInMemoryThenSentThenInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kill")
	s, f := spied(t, path)
	for _, c := range []struct {
		change func(string) error
		want   Word
	}{{s.Latch, Latched}, {s.Kill, Killed}, {s.Latch, Killed}, {s.Revive, Open}, {s.Kill, Killed}, {s.Revive, Open}} {
		must(t, c.change("because"))
		want := []string{"broadcast " + c.want.String(), "file " + c.want.String()}
		if got := f.took(); !slices.Equal(got, want) && got != nil { // a latch that is in force already is not written again
			t.Errorf("%v, want %v", got, want)
		}
		wantWord(t, "here", s, c.want)
		wantWord(t, "after a restart", open(t, path, nil), c.want)
	}
}

// A latch from a request neither writes nor sends. Publish does both, once.
func TestLatchNowWaitsForNothing(t *testing.T) {
	s, f := spied(t, filepath.Join(t.TempDir(), "kill"))
	if !s.LatchNow("too slow") || s.LatchNow("too slow") {
		t.Error("what LatchNow reports is not whether it has latched")
	}
	wantWord(t, "latched", s, Latched)
	if calls := f.took(); calls != nil {
		t.Errorf("LatchNow called %v", calls)
	}
	must(t, s.Publish(), s.Publish())
	if got, want := f.took(), []string{"broadcast latched", "file latched"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// What cannot be written or sent is in force, and an error that Status shows, until it has been written and sent: by the
// next change, or by Publish.
func TestFailuresAreReportedAndMadeUpFor(t *testing.T) {
	disk, network := errors.New("the disk is gone"), errors.New("nobody listens")
	for name, again := range map[string]func(s *Switch) error{
		"publish": (*Switch).Publish, "kill": func(s *Switch) error { return s.Kill("again") },
	} {
		path := filepath.Join(t.TempDir(), "kill")
		s, f := spied(t, path)
		f.file, f.broadcast = disk, network
		err := s.Kill("bad")
		if !errors.Is(err, disk) || !errors.Is(err, network) || !strings.HasPrefix(err.Error(), `canary: kill switch "cart": it is killed in this process, but the file `+path) {
			t.Errorf("%s: %v", name, err)
		}
		wantWord(t, name, s, Killed)
		if st := s.Status(); !strings.Contains(st.FileError, disk.Error()) || !strings.Contains(st.BroadcastError, network.Error()) || st.File != path {
			t.Errorf("%s: %+v", name, st)
		}
		f.took()
		f.file, f.broadcast = nil, nil
		must(t, again(s))
		if got := f.took(); !slices.Equal(got, []string{"broadcast killed", "file killed"}) {
			t.Errorf("%s: %v", name, got)
		}
		if st := s.Status(); st.FileError != "" || st.BroadcastError != "" {
			t.Errorf("%s: %+v", name, st)
		}
		wantWord(t, name, open(t, path, nil), Killed)
	}
}

// A broadcast that panics is an error.
func TestBroadcastMayPanic(t *testing.T) {
	s := open(t, "", func([]byte) error { panic("nil map") })
	if err := s.Kill("bad"); err == nil || !strings.Contains(err.Error(), "panic: nil map") {
		t.Error(err)
	}
	wantWord(t, "killed", s, Killed)
}

// A disk that does not answer costs a change a bounded time. The broadcast goes out, requests and Status do not wait, and when the
// disk answers the file has everything.
func TestDiskThatHangsHoldsUpNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kill")
	synctest.Test(t, func(t *testing.T) {
		s, f := spied(t, path)
		disk := &hanging{storage: f.storage, answer: make(chan struct{})}
		f.storage = disk
		for _, reason := range []string{"first", "second"} { // the second waits for the first write
			began := time.Now()
			if err := s.Kill(reason); !errors.Is(err, errBusy) || time.Since(began) != saveLimit {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		}
		if st := s.Status(); !strings.Contains(st.FileError, errBusy.Error()) || st.Reason != "second" {
			t.Errorf("%+v", st)
		}
		if got := strings.Join(f.took(), ", "); got != "broadcast killed, file killed, broadcast killed" {
			t.Error(got)
		}
		close(disk.answer)
		must(t, s.Publish())
		must(t, s.notSaved(errBusy)) // a wait that ends at the moment in which the disk answers
		if st := s.Status(); st.FileError != "" {
			t.Errorf("%+v", st)
		}
	})
	if s := open(t, path, nil); s.Status().Reason != "second" {
		t.Errorf("%+v", s.Status())
	}
}

type hanging struct {
	storage
	answer chan struct{}
}

func (h *hanging) Update(change func([]byte, error) ([]byte, error)) error {
	<-h.answer
	return h.storage.Update(change)
}

// A start on a file that cannot be read is killed, and says what to do. Nothing is written until a kill, a latch or a revival here
// replaces the file: neither by the start nor by what comes from other processes.
func TestDamagedFileIsKilled(t *testing.T) {
	good := State{}.latch(writer{ID: "a"}, 1, "slow").encode()
	later := format
	later.Version = 2
	for name, c := range map[string]struct {
		make   func(path string) error
		reason string
	}{
		"empty":    {content(nil), "damaged"},
		"cut off":  {content(good[:len(good)-1]), "damaged"},
		"foreign":  {content([]byte("latched = true")), "damaged, or is not the file of a kill switch"},
		"later":    {content(later.Seal(append(later.Begin(), "{}"...))), "later version of this library"},
		"too long": {func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<30)) }, "more than 1048576 bytes"},
		"link":     {func(path string) error { return os.Symlink("/etc/hostname", path) }, "symbolic link"},
	} {
		for change, change1 := range map[string]func(*Switch) error{
			"kill":   func(s *Switch) error { return s.Kill("bad") },
			"latch":  func(s *Switch) error { return s.Latch("bad") },
			"revive": func(s *Switch) error { return s.Revive("looked at") },
		} {
			path := filepath.Join(t.TempDir(), "kill")
			must(t, c.make(path))
			before := identity(t, path)
			s := open(t, path, nil)
			wantWord(t, name, s, Killed)
			st := s.Status()
			if !strings.HasPrefix(st.Reason, "the file "+path+" cannot be used, so everything is stopped: look at the file, then revive") ||
				!strings.Contains(st.Reason, c.reason) || st.FileError == "" {
				t.Errorf("%s: %+v", name, st)
			}
			other := open(t, "", nil)
			must(t, other.Kill("elsewhere"), other.Revive("elsewhere"), s.Merge(other.Encode()))
			wantWord(t, name, s, Killed)
			if identity(t, path) != before || s.Status().FileError == "" {
				t.Errorf("%s: the file was replaced by what came from elsewhere", name)
			}
			must(t, change1(s))
			want := s.Word()
			if want != map[string]Word{"kill": Killed, "latch": Latched, "revive": Open}[change] || s.Status().FileError != "" {
				t.Errorf("%s, %s: %+v", name, change, s.Status())
			}
			wantWord(t, name+", "+change+", restart", open(t, path, nil), want)
		}
	}
}

// A file that cannot be used stops only the process that has it: neither what is given back on an abort nor a broadcast carries
// the kill, and the good file of the other process does not get it.
func TestFileThatCannotBeUsedStopsNoOtherProcess(t *testing.T) {
	good, bad := filepath.Join(t.TempDir(), "kill"), t.TempDir()
	old := open(t, good, nil)
	must(t, old.Kill("bad"), old.Revive("mended"))
	next := open(t, bad, old.Merge)
	must(t, next.Merge(old.Encode()), old.Merge(next.Encode()))
	wantWord(t, "the process with the file", next, Killed)
	wantWord(t, "the other process", old, Open)
	wantWord(t, "a restart of the other process", open(t, good, nil), Open)
	if err := next.Latch("slow"); err == nil || !strings.Contains(err.Error(), bad) { // a directory cannot be replaced
		t.Error(err)
	}
	wantWord(t, "after a latch", next, Latched)
	wantWord(t, "after a latch, which is sent", old, Latched)
}

// A file that could not be read at the start, and that a later write can use, stops nothing any more, and what is in the file is in
// force.
func TestFileThatCanBeUsedAgainStopsNothing(t *testing.T) {
	for _, there := range []Word{Open, Killed} {
		path := filepath.Join(t.TempDir(), "kill")
		first := open(t, path, nil)
		must(t, first.Kill("in the file"))
		if there == Open {
			must(t, first.Revive("mended"))
		}
		s := new(Switch)
		s.Start(Options{Package: "canary", Name: "cart", Logger: quiet})
		s.opts.File = path
		s.file = &unreadable{storage: first.file}
		s.load()
		wantWord(t, "unreadable", s, Killed)
		if st := s.Status(); !strings.Contains(st.Reason, "cannot be used") || !strings.Contains(st.FileError, errUnreadable.Error()) {
			t.Errorf("%+v", st)
		}
		other := open(t, "", nil)
		must(t, other.Kill("elsewhere"), other.Revive("elsewhere"), s.Merge(other.Encode()))
		wantWord(t, "readable", s, there)
		if st := s.Status(); strings.Contains(st.Reason, "cannot be used") || st.FileError != "" {
			t.Errorf("%+v", st)
		}
	}
}

var errUnreadable = errors.New("too many open files")

// An unreadable file can be written: the process has closed other files since the start.
type unreadable struct{ storage }

func (*unreadable) Read() ([]byte, error) { return nil, errUnreadable }

func content(data []byte) func(string) error {
	return func(path string) error { return os.WriteFile(path, data, 0o600) }
}

// identity tells whether a file was replaced.
func identity(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	return info.ModTime().String() + info.Mode().String()
}

// A file that is missing is open, and the start makes neither the file nor anything beside it.
func TestStartWithoutAFileIsOpenAndWritesNothing(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"", filepath.Join(dir, "kill"), filepath.Join(dir, "gone", "kill")} {
		s := open(t, path, nil)
		wantWord(t, path, s, Open)
		must(t, s.Publish())
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%v, %v", left, err)
		}
	}
}

// A start on a good file, and what comes from elsewhere with nothing new, write and send nothing.
func TestStartOnAGoodFileWritesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kill")
	must(t, open(t, path, nil).Kill("bad"))
	s, f := spied(t, path)
	must(t, s.Publish(), s.Merge(s.Encode()), s.Merge(new(Switch).Encode()))
	if calls := f.took(); calls != nil {
		t.Error(calls)
	}
}

// A directory that is gone costs nothing but the file: the kill is in force, and is written when the directory is back.
func TestDirectoryThatIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	s := open(t, filepath.Join(dir, "kill"), nil)
	if err := s.Kill("bad"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	wantWord(t, "gone", s, Killed)
	must(t, os.Mkdir(dir, 0o700))
	must(t, s.Merge(new(Switch).Encode())) // a message from elsewhere, with nothing new, tries again too
	wantWord(t, "back", open(t, filepath.Join(dir, "kill"), nil), Killed)
	if st := s.Status(); st.FileError != "" {
		t.Errorf("%+v", st)
	}
}

// A relative path is that of the directory in which the process has started.
func TestFileStaysWhereItWas(t *testing.T) {
	start, later := t.TempDir(), t.TempDir()
	t.Chdir(start)
	s := open(t, "kill", nil)
	t.Chdir(later)
	must(t, s.Kill("bad"))
	if _, err := os.Stat(filepath.Join(start, "kill")); err != nil {
		t.Error(err)
	}
}

// What comes from another process is in force, is in the file, and is not sent on: the transport reaches every process by itself.
func TestWhatComesFromElsewhereIsWrittenAndNotSentOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kill")
	s, f := spied(t, path)
	other := open(t, "", nil)
	must(t, other.Kill("bad"), s.Merge(other.Encode()), s.Merge(other.Encode()))
	wantWord(t, "here", s, Killed)
	if got := f.took(); !slices.Equal(got, []string{"file killed"}) {
		t.Error(got)
	}
	wantWord(t, "restart", open(t, path, nil), Killed)
	if err := s.Merge([]byte("?")); err == nil || !strings.HasPrefix(err.Error(), "canary: kill switch: ") {
		t.Error(err)
	}
	f.file = errors.New("full")
	must(t, other.Revive("mended"), s.Merge(other.Encode())) // an error of the file is none of the sender's
	wantWord(t, "revived from elsewhere", s, Open)
	if !strings.Contains(s.Status().FileError, "full") {
		t.Errorf("%+v", s.Status())
	}
}

// A kill that is made elsewhere at the same time as a revival stays, whoever receives the other's state first, and a second revival
// clears it.
func TestKillUnknownToTheReviverStays(t *testing.T) {
	for _, first := range []string{"the kill", "the revival"} {
		a, b := open(t, "", nil), open(t, "", nil)
		must(t, a.Kill("one"), b.Merge(a.Encode()))
		must(t, b.Kill("two"), a.Revive("mended")) // at the same time
		fromA, fromB := a.Encode(), b.Encode()
		c := open(t, "", nil)
		if first == "the kill" {
			must(t, c.Merge(fromB), c.Merge(fromA))
		} else {
			must(t, c.Merge(fromA), c.Merge(fromB))
		}
		must(t, a.Merge(fromB), b.Merge(fromA))
		for name, s := range map[string]*Switch{"a": a, "b": b, "c": c} {
			wantWord(t, first+" first, "+name, s, Killed)
			if st := s.Status(); st.Reason != "two" {
				t.Errorf("%+v", st)
			}
		}
		must(t, c.Revive("again"), a.Merge(c.Encode()), b.Merge(c.Encode()))
		wantWord(t, "a", a, Open)
		wantWord(t, "b", b, Open)
		must(t, a.Merge(fromB)) // an old message
		wantWord(t, "an old message", a, Open)
	}
}

// The same with a file between the two: the revival finds the kill there, and says so.
func TestRevivalSaysThatTheFileHasAnotherKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kill")
	a, b := open(t, path, nil), open(t, path, nil)
	must(t, b.Kill("two"))
	if err := a.Revive("mended"); err == nil || !strings.Contains(err.Error(), "it is killed again") || !strings.Contains(err.Error(), "two") {
		t.Error(err)
	}
	wantWord(t, "a", a, Killed)
	must(t, a.Revive("this one too"))
	wantWord(t, "restart", open(t, path, nil), Open)
}

// A kill that only the file knows, because its process died before its broadcast arrived, reaches the other processes with the
// next change, also if the broadcast of this change fails. What Merge finds in the file waits for the next Publish.
func TestKillThatOnlyTheFileKnowsIsSent(t *testing.T) {
	for name, change := range map[string]func(s *Switch, broadcast *error) error{
		"latch":  func(s *Switch, _ *error) error { return s.Latch("slow") },
		"revive": func(s *Switch, _ *error) error { _ = s.Revive("mended"); return nil },
		"failed": func(s *Switch, broadcast *error) error {
			*broadcast = errors.New("nobody listens")
			return s.Latch("slow")
		},
		"merge": func(s *Switch, _ *error) error {
			from := open(t, "", nil)
			return errors.Join(from.Latch("elsewhere"), s.Merge(from.Encode()), s.Publish())
		},
	} {
		path := filepath.Join(t.TempDir(), "kill")
		b := open(t, "", nil)
		var fails error // the first broadcast
		a := open(t, path, func(data []byte) error {
			err := fails
			if fails = nil; err != nil {
				return err
			}
			return b.Merge(data)
		})
		must(t, open(t, path, nil).Kill("its broadcast is lost"))
		must(t, change(a, &fails))
		wantWord(t, name+", a", a, Killed)
		wantWord(t, name+", b", b, Killed)
	}
}

// Each change is one line, with the reason and with who has made it; what changes nothing is none.
func TestEachChangeIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	logger := logqueue.Wrap(slog.New(slog.NewTextHandler(&log, nil)))
	path := filepath.Join(t.TempDir(), "kill")
	s, other := new(Switch), open(t, path, nil)
	s.Start(Options{Package: "canary", Name: "cart", File: path, Logger: logger})
	lines := func(what string, want ...string) {
		t.Helper()
		logqueue.Flush(logger)
		got := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
		if log.Len() == 0 {
			got = nil
		}
		log.Reset()
		if len(got) != len(want) {
			t.Errorf("%s: %q", what, got)
			return
		}
		for i := range want {
			for _, part := range strings.Split(want[i], "|") {
				if !strings.Contains(got[i], part) {
					t.Errorf("%s: %q does not say %q", what, got[i], part)
				}
			}
		}
	}
	lines("start")
	must(t, s.Latch("slow"), s.Latch("slow"))
	lines("latch", `level=WARN|canary: the kill switch is latched|name=cart|reason=slow|from=here`)
	must(t, s.Kill("bad"))
	lines("kill", `is killed"|reason=bad`)
	must(t, s.Revive("mended"))
	lines("revive", `level=INFO|is open"|reason=mended`)
	must(t, other.Kill("there"), s.Merge(other.Encode()), s.Merge(other.Encode()))
	lines("another process", `is killed"|reason=there|from="another process"|host=|pid=`)
	must(t, other.Kill("in the file"), s.Latch("slow"))
	lines("file", `is killed"|reason="in the file"|from="the file"`)
	must(t, os.WriteFile(path, nil, 0o600), s.Kill("bad"))
	lines("damaged", `reason=bad`, `the file of a kill switch is replaced|damaged`)
	must(t, os.WriteFile(path, nil, 0o600))
	new(Switch).Start(Options{Package: "flags", Name: "x", File: path, Logger: logger})
	lines("damaged start", `flags: the kill switch is killed|cannot be used`)
}

// All of it at once, and in the end all processes know the same.
func TestEverythingAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kill")
	var a, b *Switch
	a = open(t, path, func(data []byte) error { return b.Merge(data) })
	b = open(t, path, func(data []byte) error { return a.Merge(data) })
	var all sync.WaitGroup
	for _, s := range []*Switch{a, b} {
		for _, do := range []func(){
			func() { must(t, s.Kill("bad")) }, func() { must(t, s.Latch("slow")) }, func() { s.LatchNow("slow"); must(t, s.Publish()) },
			func() { _ = s.Revive("mended") }, func() { s.Status(); s.Word(); s.Encode() },
		} {
			all.Go(func() {
				for range 20 {
					do()
				}
			})
		}
	}
	all.Wait()
	must(t, a.Kill("last"))
	wantWord(t, "b", b, Killed)
	wantWord(t, "restart", open(t, path, nil), Killed)
	if !a.state.equal(b.state) {
		t.Errorf("%+v\n%+v", a.state, b.state)
	}
}

// The request path is one load.
func TestReadingTheWordAllocatesNothing(t *testing.T) {
	s := open(t, "", nil)
	must(t, s.Kill("bad"))
	if n := testing.AllocsPerRun(100, func() { s.Word() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkWord is what a request pays.
func BenchmarkWord(b *testing.B) {
	s := open(b, "", nil)
	for b.Loop() {
		s.Word()
	}
}

// BenchmarkLatchNow is a latch from a request.
func BenchmarkLatchNow(b *testing.B) {
	s := open(b, "", nil)
	for b.Loop() {
		s.LatchNow("slow")
	}
}

var _ storage = statefile.File{}
