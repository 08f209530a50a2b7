package canary

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/midair-go/midair/internal/request"
)

// replayLimit is the default of Rescue.Body.
const replayLimit = 64 << 10

// Rescue lets the stable handler answer a request whose canary has failed before anything was sent. The client does not notice;
// the failure counts as the canary's, and a panic is logged with its stack. The zero value rescues requests with a safe method (GET,
// HEAD, OPTIONS, TRACE) from panics.
//
// The canary's header lines and cookies are dropped. The request comes to the stable handler as it came to the router, with its
// body. What the canary has done elsewhere stays: a row in a database, a message that was sent. Goroutines that the canary leaves
// behind have a header and a body of their own, and their writes return an error. A panic in such a goroutine ends the process, as
// always.
//
// After the first byte, an informational answer (1xx) and a hijack nothing is rescued: the panic goes on, and net/http ends the
// connection. A panic with http.ErrAbortHandler goes on too.
type Rescue struct {
	// Also reports whether a request with another method may run twice, such as a PUT that the handlers answer alike however often
	// it comes. A panic counts as no. Default: none.
	Also func(*http.Request) bool
	// Status reports whether an answer with this status is dropped, and the stable handler answers; ServerError is one. The header
	// of the answer is not sent then, and writes of the canary return an error. A panic counts as no. Default: no answer.
	Status func(status int) bool
	// Body is how many bytes of the body are kept for the stable handler. A canary that has read more is not rescued. Negative: none.
	// Default: 64 KiB.
	Body int
	// Attempt is called before the canary with its request, and the result when the canary has failed: it takes back what the
	// canary has done to the visitor's session. The method Attempt of a session.Manager fits, whose middleware is around the router.
	// After a panic of Attempt the request is not rescued. Default: none.
	Attempt func(*http.Request) (undo func())
}

// ServerError reports whether a status is 500 or more. It is a function for Rescue.Status.
func ServerError(status int) bool { return status >= http.StatusInternalServerError }

// rescuer calls the functions of Options.Rescue.
type rescuer struct {
	Rescue
	asked  *asked
	saved  atomic.Uint64 // how many requests were rescued
	panics atomic.Uint64 // of the functions of Rescue
}

func newRescuer(o *Options, a *asked) *rescuer {
	if o.Rescue == nil {
		return nil
	}
	rs := &rescuer{Rescue: *o.Rescue, asked: a}
	if rs.Body == 0 {
		rs.Body = replayLimit
	}
	return rs
}

// eligible reports whether the request may run twice.
func (rs *rescuer) eligible(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, "":
		return true
	}
	return rs.also(r)
}

func (rs *rescuer) also(r *http.Request) bool {
	if rs.Also == nil {
		return false
	}
	defer rs.asked.caught("Rescue.Also", &rs.panics)
	return rs.Also(r)
}

func (rs *rescuer) refuses(status int) bool {
	defer rs.asked.caught("Rescue.Status", &rs.panics)
	return rs.Status(status)
}

// begin calls Rescue.Attempt. It returns false after a panic.
func (rs *rescuer) begin(r *http.Request) (undo func(), ok bool) {
	if rs.Attempt == nil {
		return nil, true
	}
	defer rs.asked.caught("Rescue.Attempt", &rs.panics)
	return rs.Attempt(r), true
}

func (rs *rescuer) undo(undo func()) {
	if undo == nil {
		return
	}
	defer rs.asked.caught("the function that Rescue.Attempt has returned", &rs.panics)
	undo()
}

// try passes a request to the canary, and to the stable handler if the canary fails before anything is sent. The request and the
// writer have what the router adds to them.
func (rt *Router) try(w http.ResponseWriter, r *http.Request, d decision) {
	t := &try{router: rt, w: w, r: r}
	one := t.first()
	undo, ok := rt.rescue.begin(one)
	if !ok {
		rt.arms[Canary].serve(w, r, d.forced)
		return
	}
	if t.runs(one, d.forced) {
		return
	}
	if one.MultipartForm != r.MultipartForm {
		_ = one.MultipartForm.RemoveAll()
	}
	rt.rescue.undo(undo)
	rt.rescue.saved.Add(1)
	two, slot := t.second()
	rt.arms[Stable].serve(w, two, false)
	finish(slot, two, r)
}

// A try is a request that the canary tries to answer.
type try struct {
	router *Router
	w      http.ResponseWriter // of the router
	r      *http.Request       // of the router
	mark   request.Mark        // the fields of the Slot of r
	slot   *request.Slot       // of the canary's request
	writer request.Writer      // of the canary's answer
	body   replay
}

// first makes the request of the canary, which shares with the other one only what nobody changes.
func (t *try) first() (one *http.Request) {
	if outer := request.From(t.r.Context()); outer != nil {
		t.mark = outer.Mark()
		t.slot, one = outer.Again(t.mark, t.r, &t.writer)
	} else {
		t.slot = &request.Slot{}
		one = t.slot.Init(t.r, &t.writer)
	}
	one.Header = t.r.Header.Clone()
	if t.r.URL != nil {
		u := *t.r.URL
		one.URL = &u
	}
	one.Form, one.PostForm = cloneValues(t.r.Form), cloneValues(t.r.PostForm)
	if t.r.Body != nil && t.r.Body != http.NoBody {
		t.body.begin(t.r.Body, t.router.rescue.Body)
		one.Body = &firstReader{replay: &t.body}
	}
	return one
}

func cloneValues(v url.Values) url.Values { return url.Values(http.Header(v).Clone()) }

// second makes the request of the stable handler. The Slot is nil if the request has none of its own.
func (t *try) second() (two *http.Request, slot *request.Slot) {
	outer := request.From(t.r.Context())
	switch inContext := t.router.opts.SideInContext; {
	case outer != nil:
		mark := t.mark
		if inContext {
			mark[request.Side] = false
		}
		slot, two = outer.Again(mark, t.r, request.WriterOf(t.w))
		if inContext {
			slot.Set(request.Side, Stable)
		}
	case t.body.src == nil:
		return t.r, nil
	default:
		two = new(http.Request)
		*two = *t.r
	}
	if t.body.src != nil {
		two.Body = &secondReader{replay: &t.body}
	}
	return two, slot
}

// finish copies into r what the server looks for in its request.
func finish(slot *request.Slot, two, r *http.Request) {
	if slot != nil {
		slot.Finish(r)
		return
	}
	r.MultipartForm, r.Pattern = two.MultipartForm, two.Pattern
}

// runs runs the canary, and reports whether its answer stands. Otherwise the stable handler is counted as begun. A panic that
// cannot be rescued goes on.
func (t *try) runs(one *http.Request, forced bool) (stands bool) {
	out := t.writer.Wrap(t.w)
	t.writer.Try(t.refuses)
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler || !t.writer.Drop(t.replaceable) {
			t.writer.Finish()
			panic(p)
		}
		t.router.opts.Logger.Error("canary: the canary has panicked, the stable handler answers", slog.String("name", t.router.opts.Name),
			slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	}()
	t.router.arms[Canary].serve(out, one, forced)
	if t.writer.Keep() {
		t.slot.Finish(t.r)
		return true
	}
	return false
}

// refuses reports whether an answer with the status is dropped.
func (t *try) refuses(status int) bool {
	return t.router.rescue.Status != nil && t.router.rescue.refuses(status) && t.replaceable()
}

// replaceable reports whether the stable handler can answer. If so, the canary gets no more of the body, and the stable handler is
// counted as begun.
func (t *try) replaceable() bool { return t.body.claim() && t.router.arms[Stable].beginAgain() }

// A replay is the body of a request that two handlers may read, one after the other. It keeps what the first one reads.
type replay struct {
	src   io.ReadCloser // nil if the request has no body
	limit int

	mu      sync.Mutex
	more    sync.Cond // a Read for the first has ended
	kept    []byte
	over    bool // the first has read more than is kept
	claimed bool // the first may not read any more
	reading int  // how many Reads for the first are under way
}

func (b *replay) begin(src io.ReadCloser, limit int) {
	b.src, b.limit = src, limit
	b.more.L = &b.mu
}

// claim ends the reading of the first, and reports whether the second can read everything.
func (b *replay) claim() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.claimed = b.claimed || !b.over
	return b.claimed
}

// keep notes what a Read for the first has got, and reports whether it may have that.
func (b *replay) keep(p []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading--
	b.more.Broadcast()
	if !b.claimed && len(b.kept)+len(p) > b.limit {
		b.over, b.kept = true, nil
	}
	if !b.over {
		b.kept = append(b.kept, p...)
	}
	return !b.claimed
}

// A firstReader is the body of the first request.
type firstReader struct {
	*replay
	closed atomic.Bool
}

func (f *firstReader) Read(p []byte) (int, error) {
	if f.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	f.mu.Lock()
	claimed := f.claimed
	if !claimed {
		f.reading++
	}
	f.mu.Unlock()
	if claimed {
		return 0, request.ErrDropped
	}
	n, err := f.src.Read(p)
	if !f.keep(p[:n]) {
		return 0, request.ErrDropped
	}
	return n, err
}

// Close leaves the body open for the second, and for the server, which closes it.
func (f *firstReader) Close() error {
	f.closed.Store(true)
	return nil
}

// A secondReader is the body of the second request.
type secondReader struct {
	*replay
	at int // how much of what is kept was read
}

func (s *secondReader) Read(p []byte) (int, error) {
	s.mu.Lock()
	for s.at == len(s.kept) && s.reading > 0 {
		s.more.Wait()
	}
	if s.at < len(s.kept) {
		defer s.mu.Unlock()
		n := copy(p, s.kept[s.at:])
		s.at += n
		return n, nil
	}
	s.mu.Unlock()
	return s.src.Read(p)
}

func (s *secondReader) Close() error { return s.src.Close() }
