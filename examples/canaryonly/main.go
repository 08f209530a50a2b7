// Canaryonly is a service that tries a new handler on a share of its visitors, and uses nothing else of the library. Its
// router has the shape of chi's; with chi itself the lines of routes are the same.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"slices"

	"github.com/midair-go/midair/canary"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`address` to listen on")
	weight := flag.Float64("weight", 0.05, "share of the visitors who get the new cart")
	flag.Parse()
	log.Fatal(http.ListenAndServe(*addr, routes(*weight)))
}

// routes is the service: the old cart, and the new one for a share of the visitors.
func routes(weight float64) http.Handler {
	r := &router{mux: http.NewServeMux()}
	r.Get("/{$}", text("hello"))
	r.Group(func(r *router) {
		r.Use(canary.Middleware(text("new cart"), canary.Options{
			Name:   "new-cart",
			Weight: canary.Fixed(weight),
			Cookie: canary.NewCookie("visitor", canary.CookieOptions{}), // without it each request is drawn by itself
		}))
		r.Get("/cart", text("old cart"))
	})
	return r.mux
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, s) }
}

// router is a mux with middlewares.
type router struct {
	mux   *http.ServeMux
	chain []func(http.Handler) http.Handler
}

// Use puts a middleware around what is added afterwards.
func (rt *router) Use(mw func(http.Handler) http.Handler) { rt.chain = append(rt.chain, mw) }

// Group adds routes that have further middlewares in common.
func (rt *router) Group(fn func(*router)) { fn(&router{rt.mux, slices.Clip(rt.chain)}) }

// Get adds a route.
func (rt *router) Get(path string, h http.Handler) {
	for _, mw := range slices.Backward(rt.chain) {
		h = mw(h)
	}
	rt.mux.Handle("GET "+path, h)
}
