package races

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/midair-go/midair/session"
)

// A service is one library behind the requests of these tests. Its methods are called with the context of a request.
type service interface {
	middleware(http.Handler) http.Handler
	get(ctx context.Context, key string) (string, error)
	put(ctx context.Context, key, value string) error
	count(ctx context.Context) error
	renew(ctx context.Context) error
	destroy(ctx context.Context) error
}

// siteRole serves a site of the library LIBRARY on the engine ENGINE at WHERE until it is killed.
func siteRole() int {
	e, ok := engineNamed(os.Getenv("ENGINE"))
	if !ok {
		return 2
	}
	store, err := e.open(os.Getenv("WHERE"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	idle, err := time.ParseDuration(os.Getenv("IDLE"))
	if err != nil {
		return 2
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 2
	}
	fmt.Printf("listening on %s\n", ln.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(ln, newSite(os.Getenv("LIBRARY"), gated{store}, idle)))
	return 1
}

// A site answers 200 with a text, 409 if the session has ended meanwhile, and 500 for another error.
type site struct {
	service
	inner http.Handler // the pages of visitors
	gates gates
}

func newSite(library string, store session.Store, idle time.Duration) http.Handler {
	s := &site{}
	if library == "scs" {
		s.service = newPeer(store, idle)
	} else {
		s.service = ours{session.NewManager(store, session.Options{Idle: idle})}
	}
	pages := http.NewServeMux()
	pages.HandleFunc("/{do}", s.page)
	s.inner = s.middleware(pages)
	mux := http.NewServeMux()
	mux.Handle("/", s.inner)
	mux.HandleFunc("/bump", s.bump)
	mux.HandleFunc("/reached", func(_ http.ResponseWriter, r *http.Request) { <-s.gates.of(r).reached })
	mux.HandleFunc("/open", func(_ http.ResponseWriter, r *http.Request) { close(s.gates.of(r).open) })
	return mux
}

func (s *site) page(w http.ResponseWriter, r *http.Request) {
	text, err := s.slowly(r, r.PathValue("do"))
	switch {
	case errors.Is(err, session.ErrGone):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		io.WriteString(w, text)
	}
}

// slowly does something. If the request has a gate, the gate is passed before it, with the session loaded, or within the call of
// the store that the request names.
func (s *site) slowly(r *http.Request, do string) (string, error) {
	ctx := r.Context()
	if r.FormValue("gate") != "" {
		g := s.gates.of(r)
		defer g.pass("end") // it may not have come by
		ctx = context.WithValue(ctx, gateKey{}, g)
		if _, err := s.get(ctx, "cart"); err != nil {
			return "", err
		}
		g.pass("handler")
	}
	return s.do(ctx, do, r.FormValue("k"), r.FormValue("v"))
}

func (s *site) do(ctx context.Context, do, key, value string) (string, error) {
	switch do {
	case "show":
		return s.show(ctx)
	case "put":
		return "", s.put(ctx, key, value)
	case "count":
		return "", s.count(ctx)
	case "renew":
		return "", s.renew(ctx)
	case "login":
		if err := s.renew(ctx); err != nil {
			return "", err
		}
		return "", s.put(ctx, "user", value)
	case "logout":
		return "", s.destroy(ctx)
	}
	return "", fmt.Errorf("nothing is done by %q", do)
}

// keys are those of the values that these tests use.
var keys = []string{"cart", "late", "count", "user", "after", "evil"}

// show returns all values of the session, as a query.
func (s *site) show(ctx context.Context) (string, error) {
	shown := url.Values{}
	for _, key := range keys {
		v, err := s.get(ctx, key)
		if err != nil {
			return "", err
		}
		if v != "" {
			shown.Set(key, v)
		}
	}
	return shown.Encode(), nil
}

// bump makes n requests to /count with the cookie of r, from several goroutines, and answers with the number of those that
// failed.
func (s *site) bump(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("n"))
	var failed atomic.Int32
	var left atomic.Int32
	left.Store(int32(n))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				inner := httptest.NewRequest("GET", "/count", nil)
				inner.Header["Cookie"] = r.Header["Cookie"]
				rec := httptest.NewRecorder()
				if s.inner.ServeHTTP(rec, inner); rec.Code != http.StatusOK {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	fmt.Fprint(w, failed.Load())
}

// ours is package session.
type ours struct{ *session.Manager }

func (o ours) middleware(h http.Handler) http.Handler { return o.Middleware(h) }

func (o ours) get(ctx context.Context, key string) (string, error) {
	v, ok, err := session.Get[any](ctx, key)
	if !ok {
		return "", err
	}
	return fmt.Sprint(v), err
}

func (o ours) put(ctx context.Context, key, value string) error { return session.Put(ctx, key, value) }

func (o ours) count(ctx context.Context) error {
	return session.Update(ctx, func(v *session.Values) error {
		n := 0
		if _, err := v.Get("count", &n); err != nil {
			return err
		}
		return v.Put("count", n+1)
	})
}

func (o ours) renew(ctx context.Context) error   { return session.Renew(ctx) }
func (o ours) destroy(ctx context.Context) error { return session.Destroy(ctx) }
