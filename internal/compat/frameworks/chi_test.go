package frameworks

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/midair-go/midair/canary"
)

var withChi = framework{
	name: "chi", status: " - %d ", compresses: true, template: route.braces, matchesAll: true,
	app:     func(v *version, out io.Writer) http.Handler { return chiApp(chiRouter(out), v) },
	bare:    func(v *version) http.Handler { return chiApp(chi.NewRouter(), v) },
	at:      chiAt,
	plainID: chiID,
	use: func(v *version, out io.Writer, m func(http.Handler) http.Handler) http.Handler {
		r := chiRouter(out)
		r.Use(m)
		return chiApp(r, v)
	},
	guest: ownRouting,
}

// chiRouter returns a router with the middlewares that a service of chi has.
func chiRouter(out io.Writer) chi.Router {
	r := chi.NewRouter()
	lines := &middleware.DefaultLogFormatter{Logger: log.New(out, "", 0), NoColor: true}
	r.Use(middleware.RequestID, middleware.ClientIPFromRemoteAddr, middleware.RequestLogger(quietPanics{lines}), middleware.Recoverer,
		middleware.Compress(5), middleware.Timeout(time.Minute))
	return r
}

func chiApp(r chi.Router, v *version) http.Handler {
	for _, rt := range v.routes() {
		r.MethodFunc(rt.method, rt.path, func(w http.ResponseWriter, r *http.Request) {
			id, pattern := chiID(r)
			v.serve(rt, plain(w, r, id, pattern))
		})
	}
	return r
}

func chiAt(out io.Writer, handler func(route) http.Handler) http.Handler {
	r := chiRouter(out)
	for _, rt := range routes {
		r.Method(rt.method, rt.path, handler(rt))
	}
	return r
}

func chiID(r *http.Request) (id, pattern string) {
	return chi.URLParam(r, "id"), chi.RouteContext(r.Context()).RoutePattern()
}

// ownRouting gives a router of chi, inside another one, a routing context of its own.
func ownRouting(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, (*chi.Context)(nil))))
	})
}

// quietPanics is the log of chi without the stacks, which chi would print.
type quietPanics struct {
	*middleware.DefaultLogFormatter
}

func (q quietPanics) NewLogEntry(r *http.Request) middleware.LogEntry {
	return quietEntry{q.DefaultLogFormatter.NewLogEntry(r), q.Logger}
}

type quietEntry struct {
	middleware.LogEntry
	out middleware.LoggerInterface
}

func (q quietEntry) Panic(v any, _ []byte) { q.out.Print(fmt.Sprint("panic: ", v)) }

// Chi keeps the state of its routing behind one pointer in the context. A canary router of chi that shares the pointer leaves its
// pattern to the stable handler when its request is rescued. A router with a routing context of its own leaves nothing.
func TestARouterOfChiInsideAnother(t *testing.T) {
	opts := half(&canary.Rescue{})
	alone, shared := withChi, withChi
	shared.guest = nil
	for _, tt := range []struct {
		framework
		want string
	}{
		{alone, "stable 7 /item/{id}\n"},
		{shared, "stable 7 /item/{id}/item/{id}\n"},
	} {
		s := newSite(t, tt.framework, use, false, opts, same)
		if a := s.get(t, "/item/7", toCanary, "Fail: panic"); a.status != 200 || a.body != tt.want {
			t.Errorf("the answer is %+v, want %q", a, tt.want)
		}
	}
}

// A canary that has mounted a router sends the stable handler to another route, if both share the routing context.
func TestAMountInTheCanaryOfChi(t *testing.T) {
	broken := chi.NewRouter()
	broken.Get("/7", func(http.ResponseWriter, *http.Request) { panic("the canary is broken") })
	app := chi.NewRouter()
	app.Mount("/item", broken)
	for _, tt := range []struct {
		canary http.Handler
		status int
	}{{ownRouting(app), 200}, {app, 404}} {
		r := chi.NewRouter()
		r.Use(canary.Middleware(tt.canary, half(&canary.Rescue{})))
		s := &site{framework: withChi, srv: httptest.NewServer(chiApp(r, newVersion("stable")))}
		t.Cleanup(s.srv.Close)
		if a := s.get(t, "/item/7", toCanary); a.status != tt.status {
			t.Errorf("the answer is %+v, want the status %d", a, tt.status)
		}
	}
}
