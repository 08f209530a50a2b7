package session_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

// A keyFile is a file of keys of a test. A key is a letter.
type keyFile struct {
	t    *testing.T
	path string
}

func newKeyFile(t *testing.T, letters string, age time.Duration) keyFile {
	f := keyFile{t, filepath.Join(t.TempDir(), "keys")}
	f.write(lines(letters), age)
	return f
}

// write replaces the content. The file says that it was written so long ago.
func (f keyFile) write(content string, age time.Duration) {
	f.t.Helper()
	at := time.Now().Add(-age)
	for _, err := range []error{
		os.WriteFile(f.path+".new", []byte(content), 0o600), os.Chtimes(f.path+".new", at, at), os.Rename(f.path+".new", f.path),
	} {
		if err != nil {
			f.t.Fatal(err)
		}
	}
}

// follow makes a ring that follows the file.
func (f keyFile) follow() *session.KeyRing {
	f.t.Helper()
	k := &session.KeyRing{}
	if err := k.Follow(f.path); err != nil {
		f.t.Fatal(err)
	}
	return k
}

// states are the keys of a ring with their states, as "a active, b retiring".
func states(t *testing.T, k *session.KeyRing) string {
	t.Helper()
	var list []string
	for _, s := range k.Status() {
		name := s.ID
		for _, l := range "abcdefgh" {
			if session.SealsWith(ring40(t, string(l))) == s.ID {
				name = string(l)
			}
		}
		list = append(list, name+" "+s.State)
	}
	return strings.Join(list, ", ")
}

func wantStates(t *testing.T, k *session.KeyRing, want string) {
	t.Helper()
	if got := states(t, k); got != want {
		t.Errorf("the keys are %q, want %q", got, want)
	}
}

// "accept-only -> active -> retiring -> dropped": a key in the file opens with the next look, seals a minute later, opens when a
// newer one seals and when it is removed from the file, and is dropped by a line.
func TestAKeyOfTheFilePassesThroughItsStates(t *testing.T) {
	quiet(t)
	synctest.Test(t, func(t *testing.T) {
		f := newKeyFile(t, "a", time.Hour)
		k := f.follow()
		wantStates(t, k, "a active")
		f.write(lines("ba"), time.Hour) // a time that was kept does not make the key older
		time.Sleep(time.Second)
		wantStates(t, k, "a active, b accept-only")
		time.Sleep(time.Minute - time.Nanosecond)
		wantStates(t, k, "a active, b accept-only")
		time.Sleep(time.Second)
		wantStates(t, k, "b active, a retiring")
		f.write(lines("cb"), 0)
		time.Sleep(2 * time.Minute) // the change is seen by the next request only
		wantStates(t, k, "b active, c accept-only, a retiring")
		time.Sleep(time.Minute)
		wantStates(t, k, "c active, b retiring, a retiring")
		f.write(lines("cb")+"drop "+lines("a"), 0)
		time.Sleep(time.Second)
		wantStates(t, k, "c active, b retiring")
	})
}

// A key that was replaced, and not put behind the new one, seals until the new one has settled: no moment has a key that others
// do not open.
func TestAReplacedKeySealsUntilTheNewOneHasSettled(t *testing.T) {
	quiet(t)
	for _, byFile := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := newKeyFile(t, "a", time.Hour)
			k := f.follow()
			if !byFile {
				k = ring40(t, "a")
			}
			change := func(letters string) {
				if f.write(lines(letters), 0); !byFile {
					rotate(t, k, letters)
				}
				time.Sleep(time.Second)
			}
			change("b")
			wantStates(t, k, "a active, b accept-only")
			time.Sleep(time.Minute)
			wantStates(t, k, "b active, a retiring")
			change("a") // it is not new
			wantStates(t, k, "a active, b retiring")
		})
	}
}

func rotate(t *testing.T, k *session.KeyRing, letters string) {
	t.Helper()
	if err := k.Rotate(bytes.Fields([]byte(lines(letters)))...); err != nil {
		t.Fatal(err)
	}
}

// A process that starts learns from the time of the file how long others have had the keys. A start does not begin the minute
// anew, and a time in the future does no harm.
func TestTheMinuteIsThatOfTheFileAtAStart(t *testing.T) {
	quiet(t)
	for age, want := range map[time.Duration]time.Duration{
		time.Hour: 0, time.Minute: 0, 50 * time.Second: 10 * time.Second, 0: time.Minute, -time.Hour: time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			k := newKeyFile(t, "cba", age).follow()
			if want > 0 {
				time.Sleep(want - time.Nanosecond)
				wantStates(t, k, "a active, c accept-only, b accept-only")
				time.Sleep(time.Second)
			}
			if got := states(t, k); !strings.HasPrefix(got, "c active") {
				t.Errorf("age %v: %s", age, got)
			}
			only := newKeyFile(t, "d", age).follow()
			wantStates(t, only, "d active")
		})
	}
}

// badFiles are contents that are not taken, each with the end of its error.
var badFiles = map[string]string{
	"":                                 "/keys: there is no secret in it",
	"# a comment\n\n":                  "/keys: there is no secret in it",
	"drop 01234567\n":                  "/keys: there is no secret in it",
	lines("b")[:40]:                    "/keys: the last line does not end with a newline: the file may not be complete",
	lines("bc")[:60]:                   "/keys: the last line does not end with a newline: the file may not be complete",
	"# new\nshort\n":                   "/keys: line 2: 5 bytes, want 32 to 1024",
	lines("b") + "a b\n":               "/keys: line 2: a secret has only letters, digits and signs of ASCII, and no spaces",
	lines("bcb"):                       "/keys: line 3: the secret of line 1 again",
	"drop x\n" + lines("b"):            "/keys: line 1: drop: 1 bytes, want 32 to 1024",
	lines("cb") + "drop " + lines("b"): "/keys: line 2: this secret is dropped in another line",
	lines("abcdefghijklmnopq"):         "/keys: 17 secrets, more than 16",
	strings.Repeat("\x00", 64) + "\n":  "/keys: line 1: a secret has only letters, digits and signs of ASCII, and no spaces",
	strings.Repeat(strings.Repeat("#", 80)+"\n", 900): "/keys: it has 72900 bytes, more than 65536",
}

// "a bad or half-written file keeps the last good keys": the error names the file and the line, is that of Ready, is logged once,
// and never has a secret in it. A good file is taken again.
func TestABadFileKeepsTheLastGoodKeys(t *testing.T) {
	for content, want := range badFiles {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			before := slog.Default()
			slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
			defer slog.SetDefault(before)
			f := newKeyFile(t, "a", time.Hour)
			k := f.follow()
			sm := session.NewManager(session.Dir(t.TempDir()), session.Options{Keys: k})
			for range 2 {
				f.write(content, 0)
				for range 5 {
					time.Sleep(time.Second)
					wantStates(t, k, "a active")
				}
				err := sm.Ready(t.Context())
				if err == nil || !strings.HasPrefix(err.Error(), "session: /") || !strings.HasSuffix(err.Error(), want) {
					t.Errorf("%q: %v", content, err)
				}
			}
			f.write(lines("ba"), 0)
			time.Sleep(time.Second)
			wantStates(t, k, "a active, b accept-only")
			if err := sm.Ready(t.Context()); err != nil {
				t.Error(err)
			}
			session.FlushLog(k)
			if n := strings.Count(log.String(), "level=ERROR"); n != 1 || strings.Contains(log.String(), "bbbb") {
				t.Errorf("%d lines: %s", n, log.String())
			}
		})
	}
}

// Without a file at the start, Follow says so, a random key serves, and the keys of the file are taken when it comes.
func TestAFileMayComeLater(t *testing.T) {
	quiet(t)
	synctest.Test(t, func(t *testing.T) {
		f := keyFile{t, filepath.Join(t.TempDir(), "keys")}
		k := &session.KeyRing{}
		if err := k.Follow(f.path); err == nil || !strings.HasSuffix(err.Error(), "/keys: there is no such file") {
			t.Errorf("Follow: %v", err)
		}
		if err := k.Follow(f.path); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("a second Follow: %v", err)
		}
		if err := k.Rotate(bytes.Repeat([]byte("x"), 32)); err == nil || !strings.Contains(err.Error(), "change the file") {
			t.Errorf("Rotate beside a file: %v", err)
		}
		random := session.SealsWith(k)
		f.write(lines("a"), time.Hour)
		time.Sleep(time.Second)
		wantStates(t, k, "a active, "+random+" retiring") // nobody else has the random key
	})
}

// A file that goes away, or that may not be read, changes nothing.
func TestAFileMayGoAway(t *testing.T) {
	quiet(t)
	synctest.Test(t, func(t *testing.T) {
		f := newKeyFile(t, "ba", time.Hour)
		k := f.follow()
		if err := os.Remove(f.path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		wantStates(t, k, "b active, a retiring")
		f.write(lines("ba"), 0)
		time.Sleep(time.Second)
		wantStates(t, k, "b active, a retiring")
	})
}

// A key that has leaked is gone at once: by its secret, by its id, and by code. Another process cannot bring it back. A key that
// is dropped opens nothing, and what goes on seals.
func TestADroppedKeyIsGoneAtOnce(t *testing.T) {
	quiet(t)
	id := session.SealsWith(ring40(t, "a"))
	for name, line := range map[string]string{"secret": "drop " + lines("a"), "id": "drop " + id + "\n", "code": ""} {
		synctest.Test(t, func(t *testing.T) {
			f := newKeyFile(t, "a", time.Hour)
			k := f.follow()
			if line == "" {
				k = ring40(t, "a")
				rotate(t, k, "ba")
				if err := k.Drop(id); err != nil {
					t.Error(err)
				}
			} else {
				f.write(lines("b")+line, 0)
				time.Sleep(time.Second)
			}
			wantStates(t, k, "b active")
			data, err := ring40(t, "a").MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := k.UnmarshalBinary(data); err != nil {
					t.Error(err)
				}
				wantStates(t, k, "b active")
			}
			if cold := f.follow(); line != "" {
				testutil.HandOver(t, ring40(t, "ca"), cold)
				if got := states(t, cold); strings.Contains(got, "a ") {
					t.Errorf("%s: a new process has %s", name, got)
				}
			}
			for _, id := range []string{id, session.SealsWith(k)} { // one that is gone, and the only one
				if err := k.Drop(id); err == nil || line != "" && !strings.Contains(err.Error(), "change the file") {
					t.Errorf("%s: Drop returns %v", name, err)
				}
			}
		})
	}
}

// A process without requests does not look at its file. When many come at the same time after an hour, each of them opens what
// others have sealed meanwhile.
func TestTheFirstRequestsAfterAnIdleHourKnowTheNewKeys(t *testing.T) {
	quiet(t)
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			f := newKeyFile(t, "a", time.Hour)
			busy, idle := f.follow(), f.follow()
			session.SealsWith(idle)
			f.write(lines("b"), 0)
			for range 70 {
				time.Sleep(time.Second)
				session.SealsWith(busy)
			}
			time.Sleep(time.Hour)
			wantStates(t, busy, "b active, a retiring")
			var all sync.WaitGroup
			for range 16 {
				all.Go(func() {
					if !slices.Contains(session.OpensWith(idle), session.SealsWith(busy)) {
						t.Error("a request does not know the key")
					}
				})
			}
			all.Wait()
		})
	}
}

// Requests go on while the file and other processes change the keys.
func TestAFollowedFileChangesBesideRequests(t *testing.T) {
	quiet(t)
	f := newKeyFile(t, "ba", time.Hour)
	k := &session.KeyRing{}
	session.SetSettle(k, time.Nanosecond)
	if err := k.Follow(f.path); err != nil {
		t.Fatal(err)
	}
	v := newVisitor(t, newSite(session.Dir(t.TempDir()), session.Options{Keys: k}))
	v.get("/count")
	var all sync.WaitGroup
	for range 4 {
		one := v.with(v.h)
		all.Go(func() {
			for range 200 {
				one.get("/count")
				k.Status()
			}
		})
	}
	for i := range 50 {
		f.write(lines("cba"[i%2:]), 0)
		session.LookNow(k)
		testutil.HandOver(t, k, k)
	}
	all.Wait()
	v.want("/count", fmt.Sprint(4*200+2))
}

// While the only key is dropped and replaced, each request has a key.
func TestThereIsAKeyWhileTheOnlyOneIsDropped(t *testing.T) {
	quiet(t)
	f := newKeyFile(t, "a", 0)
	k := f.follow()
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					session.SealsWith(k)
				}
			}
		})
	}
	for i := range 200 {
		f.write(lines("ab"[i%2:i%2+1])+"drop "+lines("ba"[i%2:i%2+1]), 0)
		session.LookNow(k)
	}
	close(stop)
	all.Wait()
	wantStates(t, k, "b active")
}

// A request between two looks allocates nothing for the keys, and asks the file system for nothing.
func TestKeysOfAFileCostARequestNothing(t *testing.T) {
	quiet(t)
	synctest.Test(t, func(t *testing.T) { // no time passes
		k := newKeyFile(t, "ba", time.Hour).follow()
		if n := testing.AllocsPerRun(100, func() { session.UseKeys(k) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		session.FlushLog(k)
	})
}
