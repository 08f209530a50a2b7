package frameworks

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"github.com/midair-go/midair/session"
)

// A version is the old or the new version of the program. It counts the requests that its handlers get.
type version struct {
	side string
	more chan struct{} // lets a handler of /stream go on
	came chan struct{} // a handler of /wait has begun
	gone chan struct{} // the context of that handler is done

	mu    sync.Mutex
	calls int
}

func newVersion(side string) *version {
	return &version{side: side, more: make(chan struct{}), came: make(chan struct{}, 1), gone: make(chan struct{}, 1)}
}

// handled returns how many requests the handlers have got.
func (v *version) handled() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.calls
}

// A call is a request as a handler of a framework gets it.
type call struct {
	w           http.ResponseWriter
	r           *http.Request
	id, pattern string                        // of the framework's route
	text        func(status int, body string) // is how the framework answers with text
	fail        func(status int)              // is how the framework answers with an error
}

// plain is a call of a handler that has nothing of a framework.
func plain(w http.ResponseWriter, r *http.Request, id, pattern string) call {
	return call{w: w, r: r, id: id, pattern: pattern,
		text: func(status int, body string) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(status)
			io.WriteString(w, body)
		},
		fail: func(status int) { http.Error(w, http.StatusText(status), status) },
	}
}

// A route is a path of the program. In the path {id} is a parameter.
type route struct {
	method, path string
	handle       func(*version, call)
}

// colons is the path as gin and echo write it.
func (rt route) colons() string { return strings.ReplaceAll(rt.path, "{id}", ":id") }

var routes = []route{
	{"GET", "/item/{id}", (*version).item},
	{"GET", "/page/{id}", (*version).page},
	{"GET", "/stream/{id}", (*version).stream},
	{"GET", "/socket/{id}", (*version).socket},
	{"GET", "/wait/{id}", (*version).wait},
	{"POST", "/upload/{id}", (*version).upload},
	{"GET", "/visits/{id}", (*version).visits},
}

// pageLines is how many lines a page has.
const pageLines = 500

// routes returns the routes of a program. The canary has one more.
func (v *version) routes() []route {
	if v.side == "canary" {
		return append(slices.Clone(routes), route{"GET", "/new/{id}", (*version).item})
	}
	return routes
}

// serve passes a call to the handler of a route. With the header Fail the canary does not get that far.
func (v *version) serve(rt route, c call) {
	v.mu.Lock()
	v.calls++
	v.mu.Unlock()
	if fail := c.r.Header.Get("Fail"); fail != "" && v.side == "canary" {
		v.fails(fail, c)
		return
	}
	rt.handle(v, c)
}

// fails is how the canary fails: by a panic or an error, late or with a changed header, and with the body of the request read.
func (v *version) fails(how string, c call) {
	if how == "late" {
		io.WriteString(c.w, v.line(c))
		_ = http.NewResponseController(c.w).Flush()
		panic("the canary is broken after the first byte")
	}
	c.w.Header().Set("Canary", "has failed")
	c.w.Header().Add("Vary", "Canary")
	http.SetCookie(c.w, &http.Cookie{Name: "broken", Value: "1"})
	c.r.Header.Set("Accept-Encoding", "broken")
	c.r.URL.Path = "/broken"
	io.Copy(io.Discard, c.r.Body)
	if how == "panic" {
		panic("the canary is broken")
	}
	c.fail(http.StatusInternalServerError)
}

// line is how each handler names itself, and what the framework has found in the path.
func (v *version) line(c call) string { return fmt.Sprintf("%s %s %s\n", v.side, c.id, c.pattern) }

func (v *version) item(c call) { c.text(http.StatusOK, v.line(c)) }

func (v *version) page(c call) { c.text(http.StatusOK, strings.Repeat(v.line(c), pageLines)) }

// stream sends a line, and another one when the client has the first.
func (v *version) stream(c call) {
	c.w.Header().Set("Content-Type", "text/plain")
	io.WriteString(c.w, v.line(c))
	if err := http.NewResponseController(c.w).Flush(); err != nil {
		panic(err)
	}
	select {
	case <-v.more:
		io.WriteString(c.w, "the end\n")
	case <-c.r.Context().Done():
	}
}

// socket sends back what comes on a WebSocket.
func (v *version) socket(c call) {
	conn, err := websocket.Accept(c.w, c.r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	for {
		kind, text, err := conn.Read(c.r.Context())
		if err != nil {
			return
		}
		if err := conn.Write(c.r.Context(), kind, append([]byte(v.line(c)), text...)); err != nil {
			return
		}
	}
}

// wait returns when the client has gone.
func (v *version) wait(c call) {
	v.came <- struct{}{}
	<-c.r.Context().Done()
	v.gone <- struct{}{}
}

func (v *version) upload(c call) {
	body, err := io.ReadAll(c.r.Body)
	if err != nil {
		c.fail(http.StatusBadRequest)
		return
	}
	c.text(http.StatusOK, v.line(c)+uploaded(body))
}

func uploaded(body []byte) string {
	return fmt.Sprintf("%d bytes %x", len(body), crc32.ChecksumIEEE(body))
}

// visits counts the visits in the session of the visitor.
func (v *version) visits(c call) {
	n, _, err := session.Get[int](c.r.Context(), "visits")
	if err = errors.Join(err, session.Put(c.r.Context(), "visits", n+1)); err != nil {
		c.fail(http.StatusInternalServerError)
		return
	}
	c.text(http.StatusOK, fmt.Sprintf("%s %d", v.side, n+1))
}
