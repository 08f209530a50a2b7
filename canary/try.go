package canary

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"

	"github.com/midair-go/midair/internal/request"
)

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

// serve passes a request to the canary, and to the stable handler if the canary fails before anything is sent. The request and the
// writer have what the router adds to them.
func (t *try) serve(d decision) {
	rt := t.router
	one := t.first()
	undo, ok := rt.rescue.begin(one)
	if !ok {
		rt.arms[Canary].serve(t.w, t.r, d.forced)
		return
	}
	if t.runs(one, d.forced) {
		return
	}
	if one.MultipartForm != t.r.MultipartForm {
		_ = one.MultipartForm.RemoveAll()
	}
	rt.rescue.undo(undo)
	rt.rescue.saved.Add(1)
	two, slot := t.second()
	rt.arms[Stable].serve(t.w, two, false)
	finish(slot, two, t.r)
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
