package session_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"

	"github.com/midair-go/midair/session"
)

// A counter for each visitor. It is exact, whatever requests of a visitor run at the same time, in whichever process.
func Example() {
	dir, err := os.MkdirTemp("", "sessions")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	sm := session.NewManager(session.Dir(dir), session.Options{})
	mux := http.NewServeMux()
	mux.HandleFunc("/count", func(w http.ResponseWriter, r *http.Request) {
		var n int
		err := session.Update(r.Context(), func(v *session.Values) error {
			n = 0
			if _, err := v.Get("count", &n); err != nil {
				return err
			}
			n++
			return v.Put("count", n)
		})
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, n)
	})
	srv := httptest.NewServer(sm.Middleware(mux))
	defer srv.Close()

	jar, _ := cookiejar.New(nil)
	visitor := &http.Client{Jar: jar}
	for range 3 {
		res, err := visitor.Get(srv.URL + "/count")
		if err != nil {
			log.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		fmt.Println(string(body))
	}
	visitor.CloseIdleConnections()
	// Output:
	// 1
	// 2
	// 3
}

// A login gives the session a new id, so that a cookie from before is worth nothing.
func ExampleRenew() {
	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		// after the password was checked
		err := session.Renew(r.Context())
		if err == nil {
			err = session.Put(r.Context(), "user", r.FormValue("user"))
		}
		switch {
		case errors.Is(err, session.ErrGone): // the visitor has logged out or in elsewhere, in this moment
			http.Redirect(w, r, "/", http.StatusSeeOther)
		case err != nil:
			http.Error(w, "try again", http.StatusServiceUnavailable)
		default:
			http.Redirect(w, r, "/account", http.StatusSeeOther)
		}
	})
	http.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		if err := session.Destroy(r.Context()); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	http.HandleFunc("GET /account", func(w http.ResponseWriter, r *http.Request) {
		user, ok, err := session.Get[string](r.Context(), "user")
		if err != nil || !ok {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		fmt.Fprintf(w, "Hello %q", user)
	})
}

// Keys that are in the configuration instead of the store. To rotate them, put the new one in front.
func ExampleNewKeyRing() {
	keys, err := session.NewKeyRing([]byte("a new secret of 32 random bytes…"), []byte("the one from before, as long as…"))
	if err != nil {
		log.Fatal(err)
	}
	sm := session.NewManager(session.Dir("sessions"), session.Options{Keys: keys})
	fmt.Println(sm.Keys() == keys)
	// Output: true
}
