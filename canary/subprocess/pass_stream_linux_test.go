package subprocess_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

var noLog = log.New(io.Discard, "", 0)

func init() {
	programs["streams"] = func() {
		mux := http.NewServeMux()
		begun, ended, next := new(atomic.Int64), new(atomic.Int64), make(chan struct{})
		mux.HandleFunc("/ended", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, ended.Load()) })
		mux.HandleFunc("/begun", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, begun.Load()) })
		mux.HandleFunc("/next", func(http.ResponseWriter, *http.Request) { next <- struct{}{} })
		mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
			if length := r.URL.Query().Get("length"); length != "" {
				w.Header().Set("Content-Length", length)
			}
			for range 3 {
				io.WriteString(w, "event\n")
				http.NewResponseController(w).Flush()
				<-next
			}
			io.WriteString(w, "end")
		})
		mux.HandleFunc("/duplex", func(w http.ResponseWriter, r *http.Request) {
			c := http.NewResponseController(w)
			_ = c.EnableFullDuplex()
			c.Flush()
			lines := bufio.NewScanner(r.Body)
			for lines.Scan() {
				fmt.Fprintln(w, lines.Text())
				c.Flush()
			}
		})
		mux.HandleFunc("/duplex-unread", func(w http.ResponseWriter, r *http.Request) {
			c := http.NewResponseController(w)
			_ = c.EnableFullDuplex()
			io.WriteString(w, "answer")
		})
		mux.HandleFunc("/broken", func(w http.ResponseWriter, r *http.Request) {
			c := http.NewResponseController(w)
			_ = c.EnableFullDuplex()
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		mux.HandleFunc("/waits", func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			begun.Add(1)
			<-r.Context().Done()
			ended.Add(1)
		})
		mux.HandleFunc("/count", func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, err)
		})
		mux.HandleFunc("/unread", func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		})
		mux.HandleFunc("/zeros", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "x")
			io.CopyN(w, zeros{}, 100<<20)
		})
		mux.HandleFunc("/socket", socket)
		serve(mux)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// get returns the body of an answer.
func fetch(t testing.TB, c *http.Client, url string) string {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Each part of an answer reaches the client before the handler goes on, whether the length of the answer is known or not.
func TestEventsArriveOneByOne(t *testing.T) {
	srv := front(t, passing(t, "streams"))
	for _, query := range []string{"", "?length=21"} {
		res, err := srv.Client().Get(srv.URL + "/events" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		lines := bufio.NewReader(res.Body)
		for range 3 {
			if line, err := lines.ReadString('\n'); line != "event\n" {
				t.Fatalf("%q, %v", line, err)
			}
			fetch(t, srv.Client(), srv.URL+"/next")
		}
		if end, err := lines.ReadString('\n'); end != "end" || err != io.EOF {
			t.Errorf("%q, %v", end, err)
		}
	}
}

// A handler that answers while it reads does so through the process, over HTTP/1.1 and HTTP/2.
func TestBothDirectionsStreamAtOnce(t *testing.T) {
	h := passing(t, "streams")
	for _, name := range []string{"HTTP/1.1 over TLS", "HTTP/2"} {
		srv, c := behind(t, name, h)
		body, w := io.Pipe()
		r, _ := http.NewRequestWithContext(t.Context(), "POST", srv.URL+"/duplex", body)
		res, err := c.Do(r) // has the header before a byte of the body was sent
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(res.Body)
		for i := range 100 {
			fmt.Fprintf(w, "line %d\n", i)
			if line, err := lines.ReadString('\n'); line != fmt.Sprintf("line %d\n", i) {
				t.Fatalf("%s: %q, %v", name, line, err)
			}
		}
		w.Close()
		if _, err := lines.ReadByte(); err != io.EOF {
			t.Error(err)
		}
		res.Body.Close()
	}
}

// Bodies of 100 MB do not fill the memory of the host. TotalAlloc counts also what the client and the server of the test allocate.
func TestLargeBodiesTakeNoMemory(t *testing.T) {
	srv := front(t, passing(t, "streams"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	res, err := http.Post(srv.URL+"/count", "", io.LimitReader(zeros{}, 100<<20))
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(res.Body); string(b) != "104857600 <nil>" {
		t.Errorf("the handler has read %s", b)
	}
	res.Body.Close()
	if res, err = http.Get(srv.URL + "/zeros"); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, res.Body); n != 100<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	res.Body.Close()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("the host has allocated %d bytes", n)
	}
}

// The context of the handler ends when the client has gone, and when the time of the request is over.
func TestTheEndOfTheClientReachesTheHandler(t *testing.T) {
	h := passing(t, "streams")
	probe := front(t, h)
	reach := func(what string, n int) {
		t.Helper()
		testutil.Until(t, patience, fmt.Sprint(n, what), func() bool { return fetch(t, probe.Client(), probe.URL+what) == fmt.Sprint(n) })
	}
	n := 0
	for _, name := range []string{"HTTP/1.1 over TLS", "HTTP/2"} {
		for _, body := range []string{"", "body"} {
			srv, c := behind(t, name, h)
			ctx, cancel := context.WithCancel(t.Context())
			r, _ := http.NewRequestWithContext(ctx, "POST", srv.URL+"/waits", strings.NewReader(body))
			done := make(chan error)
			go func() { // ends with the request
				_, err := c.Do(r)
				done <- err
			}()
			n++
			reach("/begun", n)
			cancel()
			if <-done == nil {
				t.Error("there is an answer")
			}
			reach("/ended", n)
		}
	}
	late := front(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 20*time.Millisecond)
		defer cancel()
		h.ServeHTTP(w, r.WithContext(ctx))
	}))
	res, err := http.Get(late.URL + "/waits")
	if err != nil || res.StatusCode != http.StatusGatewayTimeout {
		t.Fatalf("%v, %v", res, err)
	}
	res.Body.Close()
	testutil.Until(t, patience, "the request has ended", func() bool { return h.Status().InFlight == 0 })
}

// Clients that send nothing, or take nothing, block noLog else, and leave nothing behind when they have gone.
func TestStuckClientsBlockNobody(t *testing.T) {
	h := passing(t, "streams")
	srv := front(t, h)
	var stuck []net.Conn
	for i := range 100 {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		stuck = append(stuck, c)
		request := "GET /zeros HTTP/1.1\r\nHost: a\r\n\r\n"
		if i%2 == 0 {
			request = "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nfirst bytes"
		}
		io.WriteString(c, request)
	}
	testutil.Until(t, patience, "all are in the process", func() bool { return h.Status().InFlight == 100 })
	for range 50 {
		if got := fetch(t, srv.Client(), srv.URL+"/ended"); got != "0" {
			t.Fatal(got)
		}
	}
	for _, c := range stuck {
		c.Close()
	}
	testutil.Until(t, patience, "all have ended", func() bool { return h.Status().InFlight == 0 })
}

// A handler that answers without reading a large body does not wait for the client, who gets the answer.
func TestAnswerBeforeTheBodyIsSent(t *testing.T) {
	h := passing(t, "streams")
	srv := front(t, h)
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nfirst bytes")
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge || !res.Close {
		t.Fatalf("%v, %v", res, err)
	}
	if b, err := io.ReadAll(res.Body); string(b) != "too large\n" {
		t.Errorf("%q, %v", b, err)
	}
	testutil.Until(t, patience, "the request has ended", func() bool { return h.Status().InFlight == 0 })
}

// A handler that answers while it reads, and leaves most of the body unread, does not harm the next request: the server of the process
// closes such a connection without a word.
func TestUnreadBodyDoesNotHarmTheNextRequest(t *testing.T) {
	srv := front(t, passing(t, "streams"))
	for range times(20) {
		whole, w := io.Pipe()
		r, _ := http.NewRequestWithContext(t.Context(), "POST", srv.URL+"/duplex-unread", whole)
		res, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.CopyN(w, zeros{}, 300<<10)
		w.Close()
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		srv.Client().CloseIdleConnections() // the client repeats a GET on a connection that it has used before
		res, err = srv.Client().Get(srv.URL + "/count")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(b) != "0 <nil>" {
			t.Fatalf("%d %s", res.StatusCode, b)
		}
	}
}
