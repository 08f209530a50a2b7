package session_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/session"
)

// A lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// The log has a line for each session that is created, renewed, destroyed or imported, at its level; the numbers agree with it; and
// nothing in it opens a session: no cookie, no id, no key of the store as a whole, and no value of a user.
func TestTheLogTellsWhatHappensAndNoSecret(t *testing.T) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		synctest.Test(t, func(t *testing.T) {
			log := &lockedBuffer{}
			store := newSpy(t)
			old := newOldLibrary()
			old.sessions["ann"]["user"] = "secret-ann"
			s := newSite(store, session.Options{
				Import: old.read, Keys: ring(t, "a"), Secure: true, Logger: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: level})),
			})
			secrets := []string{"secret", "user", "count"}
			store.on(func(op, id string) error { secrets = append(secrets, id, id[16:32]); return nil })
			visit := func(b *browser, paths ...string) {
				for _, path := range paths {
					b.do(s, httptest.NewRequest("GET", path, nil))
					for _, c := range b.jar {
						if strings.Contains(c.Name, "session") {
							secrets = append(secrets, c.Value, c.Value[:22], c.Value[23:])
							if id, ok := session.ID(s.sm, c.Name, c.Value); ok {
								secrets = append(secrets, hex.EncodeToString(id[:]))
							}
						}
					}
				}
			}
			visit(newBrowser(t), "/put?k=k&v=secret-value", "/renew", "/put?k=secret-key&v=v", "/renew", "/logout", "/logout", "/count")
			visit(oldBrowser(t), "/get?k=user", "/login", "/logout")
			store.on(func(op, _ string) error { return errors.New("dead") })
			visit(newBrowser(t), "/count")
			synctest.Wait()

			text := log.String()
			want := map[string]int{"created": 2, "renewed": 3, "destroyed": 2, "imported": 1}
			for what, n := range want {
				if what == "created" && level > slog.LevelDebug {
					n = 0
				}
				if got := strings.Count(text, `"session: `+what+`"`); got != n {
					t.Errorf("level %v: %d lines of %s, want %d:\n%s", level, got, what, n, text)
				}
			}
			for _, secret := range secrets {
				if strings.Contains(text, secret) {
					t.Errorf("the log has %q:\n%s", secret, text)
				}
			}
			st := s.sm.Status()
			if st.Created != 2 || st.Renewed != 3 || st.Destroyed != 2 || st.Imported != 1 || st.Failures != 1 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// The numbers are those of what the store was asked, and of the cookies that were refused.
func TestStatusCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newSpy(t)
		s := newSite(store, session.Options{})
		v := newVisitor(t, s)
		calls := map[string]uint64{}
		store.on(func(op, _ string) error { calls[op]++; return nil })
		v.get("/count")
		for range 5 {
			time.Sleep(3 * time.Hour)
			v.get("/count")
			v.get("/get?k=k")
		}
		v.get("/renew")
		st := s.sm.Status()
		if st.Loads != calls["load"] || st.Writes != calls["create"]+calls["swap"]+calls["touch"]+calls["delete"] || st.Loads == 0 {
			t.Errorf("%+v, calls %v", st, calls)
		}
		if st.Conflicts != 0 || st.Failures != 0 || st.Refused != 0 {
			t.Errorf("%+v", st)
		}

		other := v.with(s)
		store.on(func(op, _ string) error {
			if op == "swap" {
				store.on(nil)
				other.get("/put?k=k&v=v")
			}
			return nil
		})
		v.get("/count")
		stranger := newVisitor(t, newSite(session.Dir(t.TempDir()), session.Options{}))
		stranger.get("/cohort")
		for _, cookie := range []string{stranger.value(), "x", v.value() + "x"} {
			bad := newVisitor(t, s)
			bad.cookie = cookie
			bad.get("/plain")
		}
		empty := newVisitor(t, s)
		empty.get("/plain")
		time.Sleep(31 * 24 * time.Hour)
		v.get("/plain") // too old is not refused
		if st := s.sm.Status(); st.Conflicts != 1 || st.Refused != 3 {
			t.Errorf("%+v", st)
		}
	})
}

// A log that is stuck keeps no request waiting.
func TestAStuckLogKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := newSite(session.Dir(t.TempDir()), session.Options{Logger: slog.New(slog.NewTextHandler(stuck(release), nil))})
		v := newVisitor(t, s)
		v.get("/count")
		begin := time.Now()
		for range 20 {
			v.get("/renew")
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("took %v", took)
		}
		close(release)
	})
}

// stuck is a writer that waits.
type stuck chan struct{}

func (s stuck) Write(p []byte) (int, error) {
	<-s
	return len(p), nil
}
