package compat

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/session"
)

// A shop is a site with sessions. It sends its visitor to a bank, which is another site, and the bank makes the browser post a form
// back:
//
//	/login   the visitor logs in as joe
//	/pay     the visitor leaves for the bank
//	/paid    gets the POST, for which the browser leaves out the cookies
//	/thanks  the POST redirects to it
//	/again   the next page of the visitor
type shop struct {
	name    string
	sm      *session.Manager
	paid    func(r *http.Request) error // what the handler of the POST does
	writes  bool                        // paid logs the visitor in as ann
	routers bool                        // there is a router with a cookie, and a router that asks for the cohort of the session
	fresh   bool                        // the visitor does not log in before

	base string // the URL of the shop
	bank string // the URL of the page of the bank
	next string // the URL where the browser goes at the end

	mu   sync.Mutex
	seen map[string]visit // by page
}

// A visit is what the shop knows of its visitor in a request.
type visit struct {
	cookies string // those of the shop
	from    string // the header line Sec-Fetch-Site
	user    string
	cohort  string
	sides   string
	err     error
}

func (v visit) String() string {
	return fmt.Sprintf("user %q, cohort %.6q, sides %q, cookies %q, from %q, %v", v.user, v.cohort, v.sides, v.cookies, v.from, v.err)
}

// handler is the service. Every shop has other names of cookies: browsers send cookies to all ports of a host.
func (s *shop) handler(dir string) http.Handler {
	s.seen = map[string]visit{}
	s.sm = session.NewManager(session.Dir(dir), session.Options{Cookie: "session-" + s.name})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", s.page("/pay", func(r *http.Request) error { return session.Put(r.Context(), "user", "joe") }))
	mux.HandleFunc("GET /pay", s.page(s.bank, s.look))
	mux.HandleFunc("POST /paid", func(w http.ResponseWriter, r *http.Request) {
		s.note(r, visit{err: s.paid(r)})
		http.Redirect(w, r, "/thanks", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /thanks", s.page("/again", s.look))
	mux.HandleFunc("GET /again", s.page(s.next, s.look))
	if !s.routers {
		return s.sm.Middleware(mux)
	}
	cohorts := split(mux, canary.Options{Name: "inner", Key: s.sm.Cohort})
	return split(s.sm.Middleware(cohorts), canary.Options{Name: "outer", Cookie: canary.NewCookie("side-"+s.name, canary.CookieOptions{})})
}

type sidesKey struct{}

// split is a router between two handlers that are both next, and note the side in the context.
func split(next http.Handler, opts canary.Options) http.Handler {
	side := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sidesKey{}, sides(r)+" "+name)))
		})
	}
	opts.Weight, opts.Logger = canary.Fixed(0.5), slog.New(slog.DiscardHandler)
	return canary.NewRouter(side("stable"), side("canary"), opts)
}

func sides(r *http.Request) string {
	s, _ := r.Context().Value(sidesKey{}).(string)
	return s
}

// page is a page whose script goes on to the next page.
func (s *shop) page(next string, do func(r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := do(r); err != nil {
			s.note(r, visit{err: err})
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<script>location = %q</script>", next)
	}
}

// look notes everything about the visitor.
func (s *shop) look(r *http.Request) error {
	user, _, err := session.Get[string](r.Context(), "user")
	s.note(r, visit{user: user, cohort: s.sm.Cohort(r), err: err})
	return nil
}

func (s *shop) note(r *http.Request, v visit) {
	for _, c := range r.Cookies() {
		if strings.HasSuffix(c.Name, "-"+s.name) {
			v.cookies += c.Name + "=" + c.Value + " "
		}
	}
	v.sides, v.from = sides(r), r.Header.Get("Sec-Fetch-Site")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[r.URL.Path] = v
}

// at returns what was noted on a page.
func (s *shop) at(page string) visit {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.seen[page]
	if !ok {
		v.err = errors.New("the browser was not here")
	}
	return v
}

// start is the first page of the visitor.
func (s *shop) start() string {
	if s.fresh {
		return s.base + "/pay"
	}
	return s.base + "/login"
}

// form is the page of the bank: it posts a form to a shop.
func form(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	to := html.EscapeString(r.URL.Query().Get("to"))
	io.WriteString(w, `<form method="post" action="`+to+`"></form><script>document.forms[0].submit()</script>`)
}

// on returns the URL of a server under another name of its host.
func on(host string, ln net.Listener) string {
	return fmt.Sprint("http://", host, ":", ln.Addr().(*net.TCPAddr).Port)
}
