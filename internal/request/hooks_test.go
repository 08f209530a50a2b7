package request_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/midair-go/midair/internal/request"
)

// A recorded hook notes its calls in a list.
type recorded struct {
	name  string
	calls *[]string
	panic bool
}

func (r recorded) BeforeHeader(_ http.Header, arg uint64) {
	*r.calls = append(*r.calls, fmt.Sprint(r.name, arg))
	if r.panic {
		panic("hook " + r.name)
	}
}

// The hooks are called in the reverse order, each with its argument, however many there are.
func TestTheLastHookIsCalledFirst(t *testing.T) {
	for n := range 6 {
		var calls, want []string
		wr := &request.Writer{}
		w := wr.Wrap(httptest.NewRecorder())
		for i := range n {
			if !wr.BeforeHeader(recorded{name: "hook", calls: &calls}, uint64(i)) {
				t.Error("refused in time")
			}
			want = append(want, fmt.Sprint("hook", i))
		}
		slices.Reverse(want)
		w.Write(nil)
		wr.Finish()
		if !slices.Equal(calls, want) {
			t.Errorf("called %q, want %q", calls, want)
		}
	}
}

// After the header was sent, or the handler has ended, a hook is refused.
func TestAHookAfterTheHeaderIsRefused(t *testing.T) {
	for name, send := range map[string]func(w http.ResponseWriter, wr *request.Writer){
		"WriteHeader": func(w http.ResponseWriter, _ *request.Writer) { w.WriteHeader(404) },
		"Write":       func(w http.ResponseWriter, _ *request.Writer) { w.Write(nil) },
		"Flush":       func(w http.ResponseWriter, _ *request.Writer) { w.(http.Flusher).Flush() },
		"controller":  func(w http.ResponseWriter, _ *request.Writer) { http.NewResponseController(w).Flush() },
		"Finish":      func(_ http.ResponseWriter, wr *request.Writer) { wr.Finish() },
	} {
		var calls []string
		wr := &request.Writer{}
		w := wr.Wrap(httptest.NewRecorder())
		send(w, wr)
		if wr.BeforeHeader(recorded{name: "late", calls: &calls}, 0) {
			t.Errorf("a hook was added after %s", name)
		}
		w.Write(nil)
		wr.Finish()
		if len(calls) > 0 {
			t.Errorf("a hook was called that was refused after %s", name)
		}
	}
}

// If several goroutines begin to answer at once, the hooks are called once, and no byte is sent before the last hook has ended.
func TestHooksAreCalledOnceByGoroutines(t *testing.T) {
	for range 100 {
		var calls []string // guarded by the Writer
		wr := &request.Writer{}
		w := wr.Wrap(flushes{checking{header: http.Header{}, check: func() {
			if len(calls) != 2 {
				t.Errorf("sent after %d of 2 hooks", len(calls))
			}
		}}})
		wr.BeforeHeader(recorded{name: "a", calls: &calls}, 0)
		wr.BeforeHeader(recorded{name: "b", calls: &calls}, 0)
		begin := make(chan struct{})
		var all sync.WaitGroup
		for _, send := range []func(){
			func() { w.Write([]byte("x")) }, func() { w.WriteHeader(404) }, func() { w.(http.Flusher).Flush() }, wr.Finish,
			func() { wr.BeforeHeader(line("x"), 0) }, func() { wr.Status() }, func() { w.Write([]byte("x")) },
		} {
			all.Go(func() {
				<-begin
				send()
			})
		}
		close(begin)
		all.Wait()
		if len(calls) != 2 || wr.Bytes() != 2 {
			t.Fatalf("calls %q, %d bytes", calls, wr.Bytes())
		}
	}
}

// A checking writer calls a function with each write.
type checking struct {
	header http.Header
	check  func()
}

func (c checking) Header() http.Header { return c.header }
func (c checking) WriteHeader(int)     { c.check() }
func (c checking) Write(p []byte) (int, error) {
	c.check()
	return len(p), nil
}

// A hook that panics ends the handler like any other panic. It is not called again, and the other hooks are called.
func TestAPanickingHookIsCalledOnce(t *testing.T) {
	var calls []string
	w := httptest.NewRecorder()
	recovering(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		wr := &request.Writer{}
		w = wr.Wrap(w)
		defer wr.Finish()
		wr.BeforeHeader(recorded{name: "a", calls: &calls}, 0)
		wr.BeforeHeader(recorded{name: "b", calls: &calls, panic: true}, 0)
		wr.BeforeHeader(recorded{name: "c", calls: &calls}, 0)
		w.Write([]byte("x"))
		t.Error("the panic did not arrive")
	})).ServeHTTP(w, get())
	if want := []string{"c0", "b0", "a0"}; !slices.Equal(calls, want) || w.Code != 500 {
		t.Errorf("calls %q, want %q; status %d", calls, want, w.Code)
	}
}
