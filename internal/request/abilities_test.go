package request_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/request"
	"github.com/midair-go/midair/internal/testutil"
)

// Writers with some of the abilities that the writers of net/http have.
type (
	bare     struct{ http.ResponseWriter }
	flushes  struct{ http.ResponseWriter }
	hijacks  struct{ http.ResponseWriter }
	http1    struct{ http.ResponseWriter }
	both     struct{ http.ResponseWriter }
	pushes   struct{ http.ResponseWriter }
	http2    struct{ http.ResponseWriter }
	unwraps  struct{ http.ResponseWriter }
	flushErr struct{ http.ResponseWriter }
)

var errFake = errors.New("not on the network")

func hijackFake() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errFake }

func (flushes) Flush()                                       {}
func (both) Flush()                                          {}
func (http1) Flush()                                         {}
func (pushes) Flush()                                        {}
func (http2) Flush()                                         {}
func (flushErr) FlushError() error                           { return errFake }
func (hijacks) Hijack() (net.Conn, *bufio.ReadWriter, error) { return hijackFake() }
func (both) Hijack() (net.Conn, *bufio.ReadWriter, error)    { return hijackFake() }
func (http1) Hijack() (net.Conn, *bufio.ReadWriter, error)   { return hijackFake() }
func (pushes) Push(target string, _ *http.PushOptions) error { return errors.New("pushed " + target) }
func (http2) Push(target string, _ *http.PushOptions) error  { return errors.New("pushed " + target) }
func (http1) CloseNotify() <-chan bool                       { return make(chan bool) }
func (http2) CloseNotify() <-chan bool                       { return make(chan bool) }
func (u unwraps) Unwrap() http.ResponseWriter                { return u.ResponseWriter }
func (u flushErr) Write([]byte) (int, error)                 { return 0, errFake }
func abilities(w http.ResponseWriter) (set string) {
	for _, a := range []struct {
		name string
		has  bool
	}{
		{"flush", is[http.Flusher](w)}, {"hijack", is[http.Hijacker](w)}, {"push", is[http.Pusher](w)},
		{"notify", is[interface{ CloseNotify() <-chan bool }](w)},
	} {
		if a.has {
			set += " " + a.name
		}
	}
	return strings.TrimSpace(set)
}

func is[T any](w http.ResponseWriter) bool {
	_, ok := w.(T)
	return ok
}

// A handler finds the abilities that the wrapped writer has, and no others. Hijack is also there if a controller finds it.
func TestTheWriterHasTheAbilitiesOfTheWrappedOne(t *testing.T) {
	rec := bare{httptest.NewRecorder()}
	for _, test := range []struct {
		w    http.ResponseWriter
		want string
	}{
		{rec, ""},
		{flushes{rec}, "flush"},
		{hijacks{rec}, "hijack"},
		{both{rec}, "flush hijack"},
		{http1{rec}, "flush hijack notify"},
		{pushes{rec}, "flush push"},
		{http2{rec}, "flush push notify"},
		{unwraps{rec}, ""},
		{unwraps{flushes{rec}}, ""},
		{unwraps{http1{rec}}, "hijack"},
		{gzipLike{http1{rec}}, "flush hijack"},
		{gzipLike{http2{rec}}, "flush"},
	} {
		t.Run(fmt.Sprintf("%T %s", test.w, test.want), func(t *testing.T) {
			w := (&request.Writer{}).Wrap(test.w)
			if got := abilities(w); got != test.want {
				t.Errorf("the handler finds %q, want %q", got, test.want)
			}
			if u, ok := w.(interface{ Unwrap() http.ResponseWriter }); !ok || u.Unwrap() != test.w {
				t.Error("Unwrap does not give the wrapped writer")
			}
			if h, ok := w.(http.Hijacker); ok {
				if _, _, err := h.Hijack(); !errors.Is(err, errFake) || request.WriterOf(w).Status() != 0 {
					t.Errorf("Hijack = %v, status %d", err, request.WriterOf(w).Status())
				}
			}
			if p, ok := w.(http.Pusher); ok && p.Push("/x", nil).Error() != "pushed /x" {
				t.Error("the push went elsewhere")
			}
			if twice := (&request.Writer{}).Wrap(w); abilities(twice) != test.want {
				t.Errorf("a second Writer has %q, want %q", abilities(twice), test.want)
			}
		})
	}
}

// With the real writers of net/http a handler finds all that it would find without the Writer.
func TestTheAbilitiesOfNetHTTPAreKept(t *testing.T) {
	for version, h2 := range versions {
		t.Run(version, func(t *testing.T) {
			got := make(chan string, 2)
			srv := start(t, h2, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				got <- abilities(w)
				w = (&request.Writer{}).Wrap(w)
				got <- abilities(w)
				if !is[io.StringWriter](w) || is[http.Hijacker](w) != is[io.ReaderFrom](w) {
					t.Error("it has no WriteString, or no ReadFrom")
				}
				if p, ok := w.(http.Pusher); ok && !errors.Is(p.Push("/x", nil), http.ErrNotSupported) {
					t.Error("the client of the test takes no pushes")
				}
			}))
			ask(t, srv, "GET", "/")
			if plain, wrapped := <-got, <-got; plain != wrapped || plain == "" {
				t.Errorf("the server's writer has %q, the Writer has %q", plain, wrapped)
			}
		})
	}
}

// A flush that no writer can do sends nothing, so that the handler can still answer with an error; a failed flush is an answer.
func TestAnImpossibleFlushIsNoAnswer(t *testing.T) {
	rec := httptest.NewRecorder()
	wr := &request.Writer{}
	w := wr.Wrap(unwraps{bare{rec}})
	if err := http.NewResponseController(w).Flush(); !errors.Is(err, http.ErrNotSupported) {
		t.Errorf("Flush = %v", err)
	}
	if !wr.BeforeHeader(line("hook"), 0) || wr.Status() != 0 {
		t.Errorf("the header counts as sent, with status %d", wr.Status())
	}
	http.Error(w, "no stream", http.StatusInternalServerError)
	if wr.Status() != 500 || rec.Header().Get("Hook") != "hook" {
		t.Errorf("status %d, header %v", wr.Status(), rec.Header())
	}
	for _, w := range []http.ResponseWriter{flushErr{rec}, unwraps{flushErr{rec}}} {
		wr := &request.Writer{}
		if err := http.NewResponseController(wr.Wrap(w)).Flush(); !errors.Is(err, errFake) || wr.Status() != 200 {
			t.Errorf("Flush = %v, status %d", err, wr.Status())
		}
	}
}

// A handler hears that its client has gone, in the way that gin asks for it.
func TestCloseNotifyIsPassedOn(t *testing.T) {
	for version, h2 := range versions {
		t.Run(version, func(t *testing.T) {
			gone := make(chan bool, 1)
			srv := start(t, h2, wrap(make(chan *request.Writer, 1), func(w http.ResponseWriter, _ *http.Request) {
				left := w.(interface{ CloseNotify() <-chan bool }).CloseNotify()
				w.(http.Flusher).Flush()
				select {
				case <-left:
					gone <- true
				case <-time.After(patience):
					gone <- false
				}
			}))
			ctx, leave := context.WithCancel(limited(t))
			r, _ := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
			res, err := srv.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			leave()
			res.Body.Close()
			if !<-gone {
				t.Error("the handler did not hear of it")
			}
		})
	}
}

// A controller reaches deadlines through the Writer.
func TestDeadlinesReachTheConnection(t *testing.T) {
	for version, h2 := range versions {
		t.Run(version, func(t *testing.T) {
			read := make(chan error, 1)
			srv := start(t, h2, wrap(make(chan *request.Writer, 1), func(w http.ResponseWriter, r *http.Request) {
				c := http.NewResponseController(w)
				if err := errors.Join(c.SetWriteDeadline(time.Now().Add(time.Hour)), c.SetReadDeadline(time.Now())); err != nil {
					t.Error(err)
				}
				_, err := io.ReadAll(r.Body)
				read <- err
			}))
			body, w := io.Pipe()
			defer w.Close()
			r, _ := http.NewRequestWithContext(limited(t), "POST", srv.URL, body)
			if res, err := srv.Client().Do(r); err == nil {
				res.Body.Close()
			}
			if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the body ends with %v", err)
			}
		})
	}
}

// A handler that enables full duplex reads the body after it has begun to answer.
func TestFullDuplexIsPassedOn(t *testing.T) {
	for version, h2 := range versions {
		t.Run(version, func(t *testing.T) {
			srv := start(t, h2, wrap(make(chan *request.Writer, 1), func(w http.ResponseWriter, r *http.Request) {
				c := http.NewResponseController(w)
				if err := errors.Join(c.EnableFullDuplex(), c.Flush()); err != nil {
					t.Error(err)
				}
				io.Copy(w, r.Body)
			}))
			in, out := io.Pipe()
			r, _ := http.NewRequestWithContext(limited(t), "POST", srv.URL, in)
			res, err := srv.Client().Do(r) // has the header before the body is sent
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(out, "echo")
			out.Close()
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if string(body) != "echo" || err != nil {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
}

// The kernel copies a file to the client, through one Writer or two. As a proof, the client takes nothing: the goroutine of the
// copy then waits inside of sendfile.
func TestFilesAreCopiedByTheKernel(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the stack is that of Linux")
	}
	const size = 64 << 20
	name := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	for way, send := range map[string]http.HandlerFunc{
		"ServeFile": func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) },
		"Copy": func(w http.ResponseWriter, r *http.Request) {
			f, err := os.Open(name)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			w.Header().Set("Content-Length", fmt.Sprint(size))
			io.Copy(w, f)
		},
	} {
		t.Run(way, func(t *testing.T) {
			seen := make(chan *request.Writer, 2)
			srv := start(t, false, wrap(seen, wrap(seen, send).ServeHTTP))
			nc, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			fmt.Fprintf(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			testutil.Until(t, patience, "the kernel copies", copying)
			nc.Close()
			if inner, outer := <-seen, <-seen; inner.Bytes() == 0 || inner.Bytes() != outer.Bytes() || inner.Status() != 200 {
				t.Errorf("%d bytes inside, %d outside, status %d", inner.Bytes(), outer.Bytes(), inner.Status())
			}
		})
	}
}

// copying reports whether a goroutine is in sendfile below a Writer.
func copying() bool {
	buf := make([]byte, 1<<20)
	for g := range bytes.SplitSeq(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
		if bytes.Contains(g, []byte("internal/poll.SendFile(")) && bytes.Contains(g, []byte("request.hijackAnswer.ReadFrom(")) {
			return true
		}
	}
	return false
}

// A whole file arrives, and is counted, whatever part of it the kernel copies.
func TestCopiedFilesAreComplete(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	for _, size := range []int{0, 1, 511, 512, 513, 200_000} {
		content := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for version, h2 := range versions {
			seen := make(chan *request.Writer, 1)
			srv := start(t, h2, wrap(seen, func(w http.ResponseWriter, _ *http.Request) {
				f, err := os.Open(name)
				if err != nil {
					t.Error(err)
					return
				}
				defer f.Close()
				if n, err := io.Copy(w, f); n != int64(size) || err != nil {
					t.Errorf("Copy = %d, %v", n, err)
				}
			}))
			_, body := ask(t, srv, "GET", "/")
			if wr := <-seen; body != string(content) || wr.Bytes() != int64(size) {
				t.Errorf("%s: %d of %d bytes arrived, %d were counted", version, len(body), size, wr.Bytes())
			}
		}
	}
}
