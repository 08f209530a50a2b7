package canary

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/midair-go/midair/internal/request"
)

// A try is a request that the canary tries to answer.
type try struct {
	router *Router
	w      http.ResponseWriter // the writer of the router
	r      *http.Request       // the request of the router
	mark   request.Mark        // the fields of the Slot of r
	slot   *request.Slot       // the Slot of the canary's request
	writer request.Writer      // the Writer of the canary's answer
	body   replay
	twice  bool    // the request may run twice
	begun  [2]bool // by Side: the arm has counted a request as begun that no handler has got yet; under the lock of writer
}

// serve passes a request to the canary, and to the stable handler if the canary fails before anything is sent. The request and the
// writer have what the router adds to them.
func (t *try) serve(d *decision) {
	rt := t.router
	t.begun[Canary] = true
	defer t.giveUp() // a function of the program may end the goroutine
	r := t.canaryRequest()
	undo, ok := rt.rescue.begin(r)
	if !ok {
		t.run(t.w, t.r, Canary, d, 0)
		return
	}
	if t.runs(r, d) {
		return
	}
	if r.MultipartForm != t.r.MultipartForm {
		_ = r.MultipartForm.RemoveAll()
	}
	rt.rescue.undo(undo)
	rt.rescue.saved.Add(1)
	r, slot := t.stableRequest()
	t.run(t.w, r, Stable, d, SecondTry)
	finish(slot, r, t.r)
}

// run is Router.run.
func (t *try) run(w http.ResponseWriter, r *http.Request, side Side, d *decision, flags OutcomeFlags) {
	t.begun[side] = false
	t.router.run(w, r, side, d, flags)
}

// giveUp takes back that requests have begun that no handler gets.
func (t *try) giveUp() {
	for side, begun := range t.begun {
		if begun {
			t.router.arms[side].giveUp()
		}
	}
}

// canaryRequest makes the request of the canary, which shares with that of the stable handler only what nobody changes.
func (t *try) canaryRequest() (r *http.Request) {
	own := t.r.Clone(t.r.Context())
	own.MultipartForm = t.r.MultipartForm // its files are not copied
	if outer := request.From(t.r.Context()); outer != nil {
		t.mark = outer.Mark()
		t.slot, r = outer.Again(t.mark, own, &t.writer)
	} else {
		t.slot = &request.Slot{}
		r = t.slot.Init(own, &t.writer)
	}
	if t.r.Body != nil && t.r.Body != http.NoBody {
		t.body.begin(t.r.Body, t.router.rescue.Body)
		r.Body = &firstReader{replay: &t.body, from: t.r, to: r}
	}
	return r
}

// stableRequest makes the request of the stable handler. The Slot is nil if the request has none of its own.
func (t *try) stableRequest() (r *http.Request, slot *request.Slot) {
	outer := request.From(t.r.Context())
	switch inContext := t.router.opts.SideInContext; {
	case outer != nil:
		mark := t.mark
		if inContext {
			mark[request.Side] = false
		}
		slot, r = outer.Again(mark, t.r, request.WriterOf(t.w))
		if inContext {
			slot.Set(request.Side, Stable)
		}
	case t.body.src == nil:
		return t.r, nil
	default:
		r = new(http.Request)
		*r = *t.r
	}
	if t.body.src != nil {
		r.Body = &secondReader{replay: &t.body}
	}
	return r, slot
}

// finish copies into outer, the request of the router, what the server looks for in its request.
func finish(slot *request.Slot, r, outer *http.Request) {
	if slot != nil {
		slot.Finish(outer)
		return
	}
	outer.MultipartForm, outer.Pattern = r.MultipartForm, r.Pattern
}

// runs calls the canary, and reports whether the answer of the canary stands. If it returns false, the arm of the stable handler has
// counted one more request as begun. A panic that cannot be rescued goes on.
func (t *try) runs(r *http.Request, d *decision) (stands bool) {
	w := t.writer.Wrap(t.w)
	t.writer.Try(t.refuses)
	t.writer.AllowGiveUp(t.givesUp)
	t.begun[Canary] = false
	ob := t.router.outcomes.begin(w, r, &t.router.arms[Canary], d, 0)
	returned := false
	defer func() {
		p := recover()
		stands = t.settle(&ob, p, returned)
		switch {
		case p != nil && stands:
			t.writer.Finish()
			panic(p)
		case p != nil && p != http.ErrAbortHandler:
			t.log(p)
		}
	}()
	t.router.call(w, r, Canary, d.forced)
	returned = true
	return
}

// settle decides whether the answer of a canary that has ended stands, and makes the outcome, also if a hook of the answer
// panics.
func (t *try) settle(ob *observation, p any, returned bool) (stands bool) {
	stands = true
	defer func() { ob.ended(p, returned, !stands && (p != nil || returned)) }()
	return !t.dropped(p, returned)
}

// log logs a panic of the canary. The request is that of the router: the canary may have changed its own.
func (t *try) log(p any) {
	path := ""
	if t.r.URL != nil {
		path = t.r.URL.Path
	}
	t.router.opts.Logger.Error("canary: the canary has panicked, the stable handler answers", slog.String("name", t.router.opts.Name),
		slog.String("method", t.r.Method), slog.String("path", path),
		slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
}

// dropped decides whether the answer of a canary that has ended is dropped: with the panic p, by returning, or by runtime.Goexit.
// Nothing that is written later, by goroutines that the canary has left behind, changes the decision.
func (t *try) dropped(p any, returned bool) bool {
	switch {
	case p != nil && p != http.ErrAbortHandler && t.twice:
		return t.writer.Drop(t.replaceable)
	case p == nil && returned && t.writer.Keep():
		t.slot.Finish(t.r)
		return false
	}
	return t.writer.Drop(func() bool { return false }) // a refused status has dropped the answer before
}

// refuses reports whether an answer with the status is dropped.
func (t *try) refuses(status int) bool {
	return t.twice && t.router.rescue.Status != nil && t.router.rescue.refuses(status) && t.replaceable()
}

// givesUp reports whether an answer is dropped whose handler gives up.
func (t *try) givesUp(unserved bool) bool { return (t.twice || unserved) && t.replaceable() }

// replaceable reports whether the stable handler can answer. If so, the canary gets no more of the body, and the stable handler is
// counted as begun.
func (t *try) replaceable() bool {
	if t.r.Context().Err() != nil { // nobody waits for an answer
		return false
	}
	if !t.router.arms[Stable].beginAgain() {
		return false
	}
	if !t.body.claim() {
		t.router.arms[Stable].giveUp()
		return false
	}
	t.begun[Stable] = true
	return true
}
