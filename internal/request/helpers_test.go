package request_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/request"
)

// versions are the protocols that tests with a real server use.
var versions = map[string]bool{"HTTP/1.1": false, "HTTP/2": true}

// start starts a server, for HTTP/2 over TLS.
func start(t testing.TB, h2 bool, h http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = h2
	if h2 {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv
}

// patience is how long a test waits for an event that comes at once.
const patience = 60 * time.Second

// limited is a context that ends long after the test should have.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// ask sends a request without a body and returns the answer with all of its body, which may be cut off.
func ask(t testing.TB, srv *httptest.Server, method, path string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(limited(t), method, srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	return res, string(body)
}

// A line is a Hook that adds its text to the header.
type line string

func (l line) BeforeHeader(h http.Header, _ uint64) { h.Add("Hook", string(l)) }

// wrap is a middleware with a Writer and a hook. When the handler has ended it sends the Writer to seen.
func wrap(seen chan<- *request.Writer, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wr := &request.Writer{}
		w = wr.Wrap(w)
		wr.BeforeHeader(line("hook"), 0)
		defer func() {
			wr.Finish()
			seen <- wr
		}()
		next(w, r)
	})
}

// recovering answers 500 if the handler panics, unless the handler aborts the answer.
func recovering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				http.Error(w, "sorry", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}
