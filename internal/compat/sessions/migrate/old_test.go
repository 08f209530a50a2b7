package migrate_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/gorilla/sessions"
	"github.com/midair-go/midair/internal/compat/sessions/migrate"
	"github.com/midair-go/midair/session"
)

// A library is one that visitors come from: its old build, and what the new build does.
type library struct {
	name     string
	cookie   string // of the old library
	old      http.Handler
	imports  func(*http.Request) (map[string]any, bool)
	logout   func(*http.Request) error
	inCookie bool // the old session is in its cookie
}

func libraries(store session.Store) []library {
	return []library{
		fromSCS("scs", "old"), fromSCS("scs with the same name", "session"),
		fromGorilla("gorilla", "old", store), fromGorilla("gorilla with the same name", "session", store),
	}
}

func (l library) sameName() bool { return l.cookie == "session" }

// eachLibrary runs a test for each library, with a new store.
func eachLibrary(t *testing.T, test func(t *testing.T, l library, store session.Store)) {
	for i, l := range libraries(nil) {
		t.Run(l.name, func(t *testing.T) {
			store := session.Dir(t.TempDir())
			test(t, libraries(store)[i], store)
		})
	}
}

// managers are those of scs, by the name of the cookie. They are made before the tests, because scs.New starts a goroutine that
// cannot be ended without a data race.
var managers = map[string]*scs.SessionManager{"old": scs.New(), "session": scs.New()}

// fromSCS is the old build of a program with scs.
func fromSCS(name, cookie string) library {
	sm := managers[cookie]
	sm.Cookie.Name = cookie
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := sm.RenewToken(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		sm.Put(r.Context(), "user", "ann")
		sm.Put(r.Context(), "since", since)
	})
	mux.HandleFunc("/me", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, sm.GetString(r.Context(), "user")) })
	m := migrate.SCS{Old: sm}
	return library{name: name, cookie: cookie, old: sm.LoadAndSave(mux), imports: m.Import, logout: m.Logout}
}

// fromGorilla is the old build of a program with gorilla/sessions, whose sessions are in cookies.
func fromGorilla(name, cookie string, store session.Store) library {
	cs := sessions.NewCookieStore([]byte("a key of the old build, 32 bytes"), []byte("to encrypt, with exactly 32 byte"))
	cs.Options.Secure = false
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		s, err := cs.Get(r, cookie)
		s.Values["user"], s.Values["since"] = "ann", since
		if err = errors.Join(err, s.Save(r, w)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/me", func(w http.ResponseWriter, r *http.Request) {
		s, _ := cs.Get(r, cookie) // a cookie of another library is no session
		if user, ok := s.Values["user"]; ok {
			fmt.Fprint(w, user)
		}
	})
	m := migrate.Gorilla{Old: cs, Name: cookie, Store: store, MaxAge: 30 * 24 * time.Hour}
	return library{name: name, cookie: cookie, old: mux, imports: m.Import, logout: m.Logout, inCookie: true}
}

var since = time.Unix(1_700_000_000, 0).UTC()
