package frameworks

import (
	"io"
	"log"
	"net/http"
	"testing"

	"github.com/gorilla/handlers"
	"github.com/gorilla/mux"

	"github.com/midair-go/midair/canary"
)

var withMux = framework{
	name: "mux", status: `" %d `, compresses: true, template: route.braces,
	app:     func(v *version, out io.Writer) http.Handler { return muxApp(muxRouter(out), v) },
	bare:    func(v *version) http.Handler { return muxApp(mux.NewRouter(), v) },
	at:      muxAt,
	plainID: muxID,
	use: func(v *version, out io.Writer, m func(http.Handler) http.Handler) http.Handler {
		r := muxRouter(out)
		r.Use(m)
		return muxApp(r, v)
	},
}

// muxRouter returns a router with the middlewares that a service of gorilla has.
func muxRouter(out io.Writer) *mux.Router {
	r := mux.NewRouter()
	r.Use(func(next http.Handler) http.Handler { return handlers.LoggingHandler(out, next) },
		handlers.ProxyHeaders, handlers.CompressHandler, handlers.RecoveryHandler(handlers.RecoveryLogger(log.New(out, "", 0))))
	return r
}

func muxApp(r *mux.Router, v *version) http.Handler {
	for _, rt := range v.routes() {
		r.HandleFunc(rt.path, func(w http.ResponseWriter, r *http.Request) {
			id, pattern := muxID(r)
			v.serve(rt, plain(w, r, id, pattern))
		}).Methods(rt.method)
	}
	return r
}

func muxAt(out io.Writer, handler func(route) http.Handler) http.Handler {
	r := muxRouter(out)
	for _, rt := range routes {
		r.Handle(rt.path, handler(rt)).Methods(rt.method)
	}
	return r
}

func muxID(r *http.Request) (id, pattern string) {
	pattern, _ = mux.CurrentRoute(r).GetPathTemplate()
	return mux.Vars(r)["id"], pattern
}

// A CompressHandler inside a RecoveryHandler answers a panic with 200 and nothing, so the canary that has both has no failure that
// could be rescued. The other way round the answer is 500.
func TestTheRecoveryOfGorillaBelongsInsideItsCompression(t *testing.T) {
	recovery := handlers.RecoveryHandler(handlers.RecoveryLogger(log.New(io.Discard, "", 0)))
	for _, tt := range []struct {
		name   string
		wrap   func(http.Handler) http.Handler
		stable int
	}{
		{"compression inside", func(h http.Handler) http.Handler { return recovery(handlers.CompressHandler(h)) }, 0},
		{"recovery inside", func(h http.Handler) http.Handler { return handlers.CompressHandler(recovery(h)) }, 1},
	} {
		f := withMux
		f.app = func(v *version, _ io.Writer) http.Handler { return tt.wrap(f.bare(v)) }
		s := newSite(t, f, around, false, half(&canary.Rescue{Status: canary.ServerError}), same)
		a := s.get(t, "/item/7", toCanary, "Fail: panic", "Accept-Encoding: gzip")
		if stable, _ := s.handled(); stable != tt.stable || a.status != 200 {
			t.Errorf("%s: stable has got %d requests, want %d; the answer is %+v", tt.name, stable, tt.stable, a)
		}
	}
}
