package frameworks

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/midair-go/midair/canary"
)

// A framework builds programs, as its users write them.
type framework struct {
	name       string
	status     string             // is how its log shows a status
	compresses bool               // one of its middlewares compresses
	template   func(route) string // is how it writes a path with parameters
	matchesAll bool               // its middlewares get requests that match no route, too

	app     func(v *version, out io.Writer) http.Handler // with middlewares
	bare    func(v *version) http.Handler                // without middlewares
	at      func(out io.Writer, handler func(route) http.Handler) http.Handler
	plainID func(*http.Request) (id, pattern string) // for handlers of net/http
	// use returns a program with m as its innermost middleware. It is nil where the framework has no such middlewares.
	use   func(v *version, out io.Writer, m func(http.Handler) http.Handler) http.Handler
	guest func(http.Handler) http.Handler // is what an app needs inside another one, or nil
}

var frameworks = []framework{withChi, withMux, withGin, withEcho}

func (rt route) braces() string { return rt.path }

// A place is where the router is.
type place string

const (
	around     place = "around"     // two programs, each with its middlewares
	aroundBare place = "aroundbare" // the same without middlewares
	inside     place = "inside"     // at each route of one program
	use        place = "use"        // as a middleware, with a program without middlewares as the canary
)

// A site is a service with a router, and its clients.
type site struct {
	framework
	place          place
	http2          bool
	stable, canary *version
	log            *lines
	srv            *httptest.Server
}

// each runs fn with each framework, place and protocol.
func each(t *testing.T, opts canary.Options, fn func(*testing.T, *site)) {
	eachWith(t, opts, same, fn)
}

// same is a middleware that does nothing.
func same(h http.Handler) http.Handler { return h }

// eachWith is each with a middleware around the service.
func eachWith(t *testing.T, opts canary.Options, outermost func(http.Handler) http.Handler, fn func(*testing.T, *site)) {
	for _, f := range frameworks {
		for _, p := range []place{around, aroundBare, inside, use} {
			if p == use && f.use == nil {
				continue
			}
			for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
				if p == aroundBare && protocol == "HTTP/2.0" {
					continue // saves time: around is tried with it
				}
				t.Run(fmt.Sprintf("%s/%s/%s", f.name, p, protocol), func(t *testing.T) {
					fn(t, newSite(t, f, p, protocol == "HTTP/2.0", opts, outermost))
				})
			}
		}
	}
}

func newSite(t *testing.T, f framework, p place, http2 bool, opts canary.Options,
	outermost func(http.Handler) http.Handler) *site {
	s := &site{framework: f, place: p, http2: http2, stable: newVersion("stable"), canary: newVersion("canary"), log: &lines{}}
	s.srv = httptest.NewUnstartedServer(outermost(s.handler(opts)))
	s.srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.srv.EnableHTTP2 = http2
	if http2 {
		s.srv.StartTLS()
	} else {
		s.srv.Start()
	}
	t.Cleanup(s.srv.Close)
	s.srv.Client().Transport.(*http.Transport).DisableCompression = true
	return s
}

func (s *site) handler(opts canary.Options) http.Handler {
	switch s.place {
	case around:
		return canary.NewRouter(s.app(s.stable, s.log), s.app(s.canary, s.log), opts)
	case aroundBare:
		return canary.NewRouter(s.bare(s.stable), s.bare(s.canary), opts)
	case inside:
		return s.at(s.log, func(rt route) http.Handler {
			return canary.NewRouter(s.plain(s.stable, rt), s.plain(s.canary, rt), opts)
		})
	}
	app := s.bare(s.canary)
	if s.guest != nil {
		app = s.guest(app)
	}
	return s.use(s.stable, s.log, canary.Middleware(app, opts))
}

func (s *site) plain(v *version, rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, pattern := s.plainID(r)
		v.serve(rt, plain(w, r, id, pattern))
	})
}

// line is what a handler of a side answers for the parameter 7.
func (s *site) line(side, path string) string {
	return fmt.Sprintf("%s 7 %s\n", side, s.template(route{path: path}))
}

// handled returns how many requests both handlers have got.
func (s *site) handled() (stable, canary int) { return s.stable.handled(), s.canary.handled() }

// visitor returns a client that keeps cookies.
func (s *site) visitor() *http.Client {
	jar, _ := cookiejar.New(nil) // never fails
	return &http.Client{Transport: s.srv.Client().Transport, Jar: jar}
}

// An answer is everything that a client gets, without the date.
type answer struct {
	status  int
	header  string
	body    string
	cookies int
}

// request returns a request with header lines, "Name: value".
func (s *site) request(t *testing.T, method, path string, body []byte, lines ...string) *http.Request {
	r, err := http.NewRequestWithContext(t.Context(), method, s.srv.URL+path, bytes.NewReader(body))
	if err != nil {
		panic(err) // a mistake in a path; request may be called from any goroutine
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	return r
}

// get returns the answer to a GET of somebody without cookies.
func (s *site) get(t *testing.T, path string, lines ...string) answer {
	t.Helper()
	return s.do(t, s.srv.Client(), s.request(t, "GET", path, nil, lines...))
}

// do sends a request, and returns the answer. The status is 0 if the answer was cut.
func (s *site) do(t *testing.T, c *http.Client, r *http.Request) answer {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		return answer{}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}
	}
	if (resp.ProtoMajor == 2) != s.http2 {
		t.Errorf("the protocol is %s", resp.Proto)
	}
	resp.Header.Del("Date")
	var header bytes.Buffer
	_ = resp.Header.Write(&header) // sorted; never fails
	return answer{resp.StatusCode, header.String(), string(body), len(resp.Cookies())}
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// count returns how often a text is in the log.
func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}
