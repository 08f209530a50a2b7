//go:build linux

package canary_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/midair-go/midair/canary"
	"github.com/midair-go/midair/session"
)

const (
	visitors = 40
	rounds   = 3 // a visitor gets a cookie, a cache stores the page of the visitor, the cache answers
)

// A cachedSite is a service with pages that caches may keep, and how visitors use it.
type cachedSite struct {
	name    string
	handler http.Handler
	header  func(visitor int) http.Header // what a visitor sends; nil: nothing
	methods string                        // of the requests of a visitor, in turn; default: GET
	login   http.Handler                  // gets a POST of each visitor, before the second request; nil: none
	chance  bool                          // nothing in a request decides the side
	asked   int                           // how many GETs and HEADs may reach the service, because nothing is in the cache for them
	except  string                        // the cache that cannot do this
}

// page answers with its name. Caches may keep the answer.
type page string

func (p page) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if len(w.Header()["Cache-Control"]) == 0 && w.Header().Get("Expires") == "" {
		w.Header().Set("Cache-Control", "public, max-age=86400")
	}
	w.Header().Set("Side", string(p))
	io.WriteString(w, string(p))
}

// having is a page that sets header lines first.
func having(p page, lines ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(lines); i += 2 {
			w.Header().Set(lines[i], lines[i+1])
		}
		p.ServeHTTP(w, r)
	})
}

// split is a router between two pages that set header lines.
func split(opts canary.Options, lines ...string) http.Handler {
	opts.Logger = quiet
	return canary.NewRouter(having("stable", lines...), having("canary", lines...), opts)
}

func halfBy(c *canary.Cookie) canary.Options { return canary.Options{Weight: half, Cookie: c} }

// choices are three values of the header X-Side, the third is none.
func choices(visitor int) http.Header {
	return []http.Header{{"X-Side": {"true"}}, {"X-Side": {"false"}}, {}}[visitor%3]
}

func encodings(visitor int) http.Header {
	return []http.Header{{"Accept-Encoding": {"gzip"}}, {}}[visitor%2]
}

func users(visitor int) http.Header { return http.Header{"User": {fmt.Sprint("user-", visitor)}} }

// sitesOfRouters are services with a Router.
func sitesOfRouters(sm *session.Manager) []cachedSite {
	own, other := newCookie(canary.CookieOptions{}), canary.NewCookie("other", canary.CookieOptions{})
	nested := func(inner *canary.Cookie) http.Handler {
		opts, of := halfBy(own), halfBy(inner)
		opts.Logger, of.Logger, of.Name = quiet, quiet, "inner"
		return canary.NewRouter(page("old"), canary.NewRouter(page("stable"), page("canary"), of), opts)
	}
	const (
		once = visitors     // each visitor asks once for the cache
		each = 2 * visitors // and before that once for a cookie
		all  = visitors * rounds
	)
	// nginx and Varnish look at these lines instead of Cache-Control.
	forCaches := []string{"Vary", "Accept-Encoding", "X-Accel-Expires", "86400", "Surrogate-Control", "max-age=86400"}
	byCookie := halfBy(own)
	chosen := headed(canary.Options{}, "X-Side")
	chosenOr := halfBy(own)
	chosenOr.Choose, chosenOr.Vary = canary.ByHeader("X-Side")
	keyed := canary.Options{Weight: half, Key: byHeader, Vary: []string{"User"}}
	same := halfBy(own)
	same.SameForAll = func(*http.Request) bool { return true }
	secret := canary.Options{Weight: half, Key: byHeader}
	atRandom := canary.Options{Weight: half}
	cohorts := canary.Options{Weight: half, Key: sm.Cohort}
	return []cachedSite{
		{name: "a cookie", handler: split(byCookie), asked: each},
		{name: "no key", handler: split(atRandom), chance: true, asked: all},
		{name: "no key, with Vary of the handler", handler: split(atRandom, "Vary", "Accept-Encoding"), chance: true, asked: all},
		{name: "a key that reads something unknown", handler: split(secret), header: users, asked: all},
		{name: "the cohort of the session", handler: sm.Middleware(split(cohorts)), asked: each},
		{name: "a header", handler: split(chosen), header: choices, asked: 3},
		{name: "a header, or else a cookie", handler: split(chosenOr), header: choices, asked: each},
		{name: "routers that share a cookie", handler: nested(own), asked: each},
		{name: "routers with two cookies", handler: nested(other), asked: each},
		{name: "a key with Vary", handler: split(keyed), header: users, asked: once},
		{name: "the same for all", handler: canary.NewRouter(page("file"), page("file"), same), asked: 1},
		{name: "Vary of the handler", handler: split(byCookie, "Vary", "Accept-Encoding"), header: encodings, asked: each},
		{name: "s-maxage", handler: split(byCookie, "Cache-Control", "s-maxage=86400"), asked: each},
		{name: "Expires", handler: split(byCookie, "Expires", "Fri, 31 Dec 2100 00:00:00 GMT"), asked: each},
		{name: "compressed outside", handler: compressed(split(byCookie)), header: encodings, asked: each},
		{name: "marked when the header is sent", handler: marksLate(split(byCookie)), header: encodings, asked: each, except: "nginx"},
		{name: "a time for the cache alone, and a cookie", handler: split(byCookie, forCaches...), asked: each},
		{name: "a time for the cache alone, and no key", handler: split(atRandom, forCaches...), chance: true, asked: all},
		{name: "HEAD and GET", handler: split(byCookie), methods: "HEAD GET HEAD", asked: each},
	}
}

// sitesOfSessions are services with a session and no router.
func sitesOfSessions(sm *session.Manager) []cachedSite {
	login := sm.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := session.Put(r.Context(), "name", r.Header.Get("User")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	reads := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, err := session.Get[string](r.Context(), "name")
		page(fmt.Sprint("page of ", name, err)).ServeHTTP(w, r)
	})
	writes := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Header.Get("User")
		err := session.Put(r.Context(), "name", name)
		page(fmt.Sprint("page of ", name, err)).ServeHTTP(w, r)
	})
	return []cachedSite{
		{name: "a session that is not used", handler: sm.Middleware(page("page")), header: users, login: login, asked: 1},
		{name: "a session that is read", handler: sm.Middleware(reads), header: users, login: login, asked: 1 + visitors},
		{name: "a session that is written", handler: sm.Middleware(writes), header: users, asked: 2 * visitors},
	}
}

// compressed is a middleware that compresses for clients which accept that, as the usual middlewares do: it says so in Vary, also
// if it does not compress.
func compressed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept-Encoding")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		next.ServeHTTP(gzipWriter{w, z}, r)
	})
}

type gzipWriter struct {
	http.ResponseWriter
	z *gzip.Writer
}

func (w gzipWriter) Write(p []byte) (int, error) { return w.z.Write(p) }

// marksLate is a middleware that adds its name to Vary just before the header is sent, after the router. nginx before 1.23 reads
// only the last Vary line of an answer.
func marksLate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(&lateMarker{ResponseWriter: w}, r) })
}

type lateMarker struct {
	http.ResponseWriter
	marked bool
}

func (w *lateMarker) WriteHeader(status int) {
	w.marked = true
	w.Header().Add("Vary", "Accept-Encoding")
	w.ResponseWriter.WriteHeader(status)
}

func (w *lateMarker) Write(p []byte) (int, error) {
	if !w.marked {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Shared caches keep the pages of a service with routers and sessions, and each visitor gets through them the side, and the page,
// that the service alone would give. No visitor gets a cookie that another visitor got.
func TestCachesKeepVisitorsApart(t *testing.T) {
	for _, program := range cachePrograms {
		t.Run(program.name, func(t *testing.T) {
			t.Parallel()
			sm := session.NewManager(session.Dir(t.TempDir()), session.Options{})
			b := behind(t, program, append(sitesOfRouters(sm), sitesOfSessions(sm)...))
			for i, site := range b.sites {
				if site.except == program.name {
					continue // what this cache cannot do is in docs/limits.md
				}
				t.Run(site.name, func(t *testing.T) {
					seen := site.visit(t, b.visitors(t, i))
					asked := int(b.asked[i].Load())
					t.Logf("%d of %d requests reached the service, %d pages", asked, visitors*rounds, len(seen))
					if asked > site.asked || site.chance && asked < site.asked {
						t.Errorf("%d of %d requests reached the service, want %d", asked, visitors*rounds, site.asked)
					}
					if one := len(seen) == 1; one != (site.asked == 1) {
						t.Errorf("the visitors saw %v", seen)
					}
				})
			}
		})
	}
}

// visit lets the visitors ask for the page several times, and checks each answer. It returns the pages that they saw.
func (s cachedSite) visit(t *testing.T, all []*cacheVisitor) (seen map[string]bool) {
	seen = map[string]bool{}
	for round := range rounds {
		for i, v := range all {
			if s.login != nil && round == 1 {
				v.login()
			}
			method := s.method(round)
			got := v.ask(method)
			seen[got.side] = true
			if s.chance {
				continue
			}
			want := v.compare(method)
			if want.cookies > 0 {
				t.Errorf("visitor %d, request %d: the service would give the visitor a cookie, the cache gave none", i, round)
			}
			if got.status != http.StatusOK || got.side != want.side || got.body != want.body {
				t.Errorf("visitor %d, request %d: the cache gives %v, the service %v", i, round, got, want)
			}
		}
	}
	mustHaveOwnCookies(t, all)
	return seen
}

func (s cachedSite) method(round int) string {
	methods := strings.Fields(s.methods)
	if len(methods) == 0 {
		return http.MethodGet
	}
	return methods[round%len(methods)]
}

// mustHaveOwnCookies checks that no cookie was given twice.
func mustHaveOwnCookies(t *testing.T, all []*cacheVisitor) {
	t.Helper()
	owner := map[string]int{}
	for i, v := range all {
		for _, c := range v.given {
			if first, taken := owner[c]; taken {
				t.Errorf("visitor %d got a cookie that visitor %d got before: %.60s", i, first, c)
			}
			owner[c] = i
		}
	}
}
