package request_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/request"
)

// A way is a way to answer.
type way struct {
	method string // "" is GET
	answer http.HandlerFunc
	status int    // of the Writer
	bytes  int64  // of the Writer
	body   string // that the client receives
	client int    // the status that the client receives, if it is another one
}

// onlyReader hides all methods but Read.
type onlyReader struct{ io.Reader }

var long = strings.Repeat("x", 5000)

func ways() map[string]way {
	write := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if status != 0 {
				w.WriteHeader(status)
			}
			w.Write([]byte(body))
		}
	}
	from := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.Copy(w, onlyReader{strings.NewReader(body)}) }
	}
	return map[string]way{
		"explicit":     {answer: write(404, "missing"), status: 404, bytes: 7, body: "missing"},
		"implicit":     {answer: write(0, "found"), status: 200, bytes: 5, body: "found"},
		"empty write":  {answer: write(0, ""), status: 200},
		"string":       {answer: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "text") }, status: 200, bytes: 4, body: "text"},
		"copy, short":  {answer: from("short"), status: 200, bytes: 5, body: "short"},
		"copy, exact":  {answer: from(long[:512]), status: 200, bytes: 512, body: long[:512]},
		"copy, long":   {answer: from(long), status: 200, bytes: 5000, body: long},
		"flush":        {answer: func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() }, status: 200},
		"controller":   {answer: func(w http.ResponseWriter, _ *http.Request) { http.NewResponseController(w).Flush() }, status: 200},
		"nothing":      {answer: func(http.ResponseWriter, *http.Request) {}, client: 200},
		"HEAD":         {method: "HEAD", answer: write(0, "found"), status: 200, bytes: 5},
		"HEAD, status": {method: "HEAD", answer: write(404, "missing"), status: 404, bytes: 7},
		"204":          {answer: write(204, "no body"), status: 204},
		"304":          {answer: write(304, "no body"), status: 304},
		"twice": {answer: func(w http.ResponseWriter, r *http.Request) {
			write(201, "a")(w, r)
			w.(http.Flusher).Flush()
			write(500, "b")(w, r)
		}, status: 201, bytes: 2, body: "ab"},
		"hints": {answer: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(103)
			write(404, "missing")(w, r)
		}, status: 404, bytes: 7, body: "missing"},
		"panic before": {answer: func(http.ResponseWriter, *http.Request) { panic("before") }, client: 500, body: "sorry\n"},
		"panic after": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(202)
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, status: 202, bytes: 4, body: "half"},
		"copy of nothing": {answer: func(w http.ResponseWriter, _ *http.Request) {
			if _, err := io.Copy(w, onlyReader{errReader{}}); err != nil {
				http.Error(w, "bad", http.StatusBadGateway)
			}
		}, status: 502, bytes: 4, body: "bad\n"},
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("nothing to read") }

// However a handler answers, the Writer knows status and bytes, and the hook is in the header once.
func TestStatusAndBytesAreThoseOfTheAnswer(t *testing.T) {
	for name, way := range ways() {
		for version, h2 := range versions {
			t.Run(name+" "+version, func(t *testing.T) {
				seen := make(chan *request.Writer, 1)
				srv := start(t, h2, recovering(wrap(seen, way.answer)))
				res, body := ask(t, srv, way.method, "/")
				wr := <-seen
				if wr.Status() != way.status || wr.Bytes() != way.bytes {
					t.Errorf("status %d and %d bytes, want %d and %d", wr.Status(), wr.Bytes(), way.status, way.bytes)
				}
				if want := max(way.client, way.status); res.StatusCode != want || body != way.body {
					t.Errorf("the client got %d %.20q, want %d %.20q", res.StatusCode, body, want, way.body)
				}
				if got := res.Header["Hook"]; !slices.Equal(got, []string{"hook"}) {
					t.Errorf("hooks in the header: %q", got)
				}
			})
		}
	}
}

// An informational answer comes without hooks, and the final answer after it has them.
func TestHintsCallNoHook(t *testing.T) {
	for version, h2 := range versions {
		t.Run(version, func(t *testing.T) {
			seen := make(chan *request.Writer, 1)
			srv := start(t, h2, wrap(seen, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Link", "</style.css>")
				w.WriteHeader(http.StatusEarlyHints)
				if request.WriterOf(w).Status() != 0 || !request.WriterOf(w).BeforeHeader(line("late"), 0) {
					t.Error("the hints count as the answer")
				}
			}))
			hints := 0
			ctx := httptrace.WithClientTrace(limited(t), &httptrace.ClientTrace{
				Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
					hints++
					if status != 103 || h.Get("Link") == "" || h.Get("Hook") != "" {
						t.Errorf("%d with %v", status, h)
					}
					return nil
				},
			})
			r, _ := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
			res, err := srv.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			<-seen
			if got := res.Header["Hook"]; hints != 1 || !slices.Equal(got, []string{"late", "hook"}) {
				t.Errorf("%d hints, then hooks %q", hints, got)
			}
		})
	}
}

// Switching protocols is an answer, with its header; a connection that was taken over counts as 101, and its bytes do not count.
func TestAHijackedAnswerIs101(t *testing.T) {
	ways := map[string]func(w http.ResponseWriter) net.Conn{
		"after WriteHeader": func(w http.ResponseWriter) net.Conn {
			w.Header().Set("Upgrade", "test")
			w.WriteHeader(http.StatusSwitchingProtocols)
			nc, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
			}
			return nc
		},
		"with a header of its own": func(w http.ResponseWriter) net.Conn {
			nc, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: test\r\nHook: %s\r\n\r\n", w.Header().Get("Hook"))
			return nc
		},
		"by the controller": func(w http.ResponseWriter) net.Conn {
			nc, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: test\r\nHook: %s\r\n\r\n", w.Header().Get("Hook"))
			return nc
		},
	}
	// between is what is between the server and the Writer.
	between := map[string]func(w http.ResponseWriter) http.ResponseWriter{
		"the server":  func(w http.ResponseWriter) http.ResponseWriter { return w },
		"a gzip like": func(w http.ResponseWriter) http.ResponseWriter { return gzipLike{w} },
	}
	for name, hijack := range ways {
		for inner, pass := range between {
			t.Run(name+" of "+inner, func(t *testing.T) {
				seen := make(chan *request.Writer, 1)
				h := wrap(seen, func(w http.ResponseWriter, _ *http.Request) {
					nc := hijack(w)
					defer nc.Close()
					if request.WriterOf(w).BeforeHeader(line("late"), 0) {
						t.Error("a hook was added after the connection was taken over")
					}
					io.WriteString(nc, "done")
					if n, err := w.Write([]byte("x")); n != 0 || !errors.Is(err, http.ErrHijacked) {
						t.Errorf("Write = %d, %v", n, err)
					}
				})
				srv := start(t, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(pass(w), r) }))
				nc, err := net.Dial("tcp", srv.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				fmt.Fprintf(nc, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
				in := bufio.NewReader(nc)
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				tail, err := io.ReadAll(in)
				if wr := <-seen; wr.Status() != 101 || wr.Bytes() != 0 {
					t.Errorf("status %d and %d bytes", wr.Status(), wr.Bytes())
				}
				if res.StatusCode != 101 || res.Header.Get("Hook") != "hook" || string(tail) != "done" || err != nil {
					t.Errorf("%d, %v, then %q, %v", res.StatusCode, res.Header, tail, err)
				}
			})
		}
	}
}

// A gzipLike is the writer of a middleware that changes the body: it flushes, and has Unwrap for the rest.
type gzipLike struct{ http.ResponseWriter }

func (g gzipLike) Unwrap() http.ResponseWriter { return g.ResponseWriter }
func (g gzipLike) Flush()                      { g.ResponseWriter.(http.Flusher).Flush() }

// Trailers arrive, those that were declared and those that were not.
func TestTrailersArrive(t *testing.T) {
	for version, h2 := range versions {
		t.Run(version, func(t *testing.T) {
			srv := start(t, h2, wrap(make(chan *request.Writer, 1), func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Trailer", "Declared")
				io.WriteString(w, "body")
				w.(http.Flusher).Flush()
				w.Header().Set("Declared", "1")
				w.Header().Set(http.TrailerPrefix+"Late", "2")
			}))
			res, body := ask(t, srv, "GET", "/")
			if body != "body" || res.Trailer.Get("Declared") != "1" || res.Trailer.Get("Late") != "2" {
				t.Errorf("%q with trailers %v", body, res.Trailer)
			}
		})
	}
}

// Whoever gave the ResponseWriter finds the Writer again, and in no other ResponseWriter.
func TestOnlyOwnWritersAreFound(t *testing.T) {
	wr := &request.Writer{}
	rec := httptest.NewRecorder()
	w := wr.Wrap(rec)
	if request.WriterOf(w) != wr {
		t.Error("the Writer was not found")
	}
	for _, w := range []http.ResponseWriter{rec, struct{ http.ResponseWriter }{w}, gzipLike{w}} {
		if request.WriterOf(w) != nil {
			t.Errorf("found in a %T", w)
		}
	}
}

// An eager is a writer that keeps a status back until WriteHeaderNow, as that of gin.
type eager struct {
	*httptest.ResponseRecorder
	now []int
}

func (e *eager) WriteHeaderNow() { e.now = append(e.now, e.Code) }

// A status that begins a WebSocket goes out at once, also if the writer further out would keep it back.
func TestSwitchingProtocolsIsNotKeptBack(t *testing.T) {
	for status, want := range map[int]int{http.StatusSwitchingProtocols: 1, http.StatusOK: 0, http.StatusNotFound: 0} {
		e, wr := &eager{ResponseRecorder: httptest.NewRecorder()}, &request.Writer{}
		wr.Wrap(e).WriteHeader(status)
		if len(e.now) != want {
			t.Errorf("%d: WriteHeaderNow was called %d times, want %d", status, len(e.now), want)
		}
	}
}
