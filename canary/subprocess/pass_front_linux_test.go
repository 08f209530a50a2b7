package subprocess_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/midair-go/midair/canary"
)

// fronts are the ways by which clients reach a host.
var fronts = map[string]func(srv *httptest.Server) *http.Client{
	"HTTP/1.1 over TLS": func(srv *httptest.Server) *http.Client {
		srv.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
		srv.StartTLS()
		return srv.Client()
	},
	"HTTP/2": func(srv *httptest.Server) *http.Client {
		srv.EnableHTTP2 = true
		srv.StartTLS()
		return srv.Client()
	},
	"unix socket": func(srv *httptest.Server) *http.Client {
		addr := srv.Listener.Addr().String()
		srv.Start()
		srv.URL = "http://unix.example"
		return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", addr)
		}}}
	},
}

// behind serves a handler at a front.
func behind(t testing.TB, name string, h http.Handler) (*httptest.Server, *http.Client) {
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = noLog
	if name == "unix socket" {
		srv.Listener.Close()
		ln, err := net.Listen("unix", shortDir(t)+"/front")
		if err != nil {
			t.Fatal(err)
		}
		srv.Listener = ln
	}
	c := fronts[name](srv)
	t.Cleanup(func() {
		c.CloseIdleConnections()
		srv.Close()
	})
	return srv, c
}

// onlyHTTP1 are Do lines that mean something else over HTTP/2, which is not what the process answers with, or after which a client
// of HTTP/2 may or may not give the part of the answer to its caller.
var onlyHTTP1 = map[string]bool{
	"hijacks": true, "identity": true, "chunked": true, "unannounced trailers": true,
	"too short": true, "panics after a part": true, "panics after a part of the length": true,
}

// A handler in the process finds what it would find in the host also if the client uses TLS, HTTP/2, or a unix socket.
func TestProcessIsNoDifferenceBehindAnyFront(t *testing.T) {
	process := passing(t, "mirror")
	for name := range fronts {
		t.Run(name, func(t *testing.T) {
			var seen [2][]string
			for i, h := range []http.Handler{http.HandlerFunc(mirror), process} {
				srv, c := behind(t, name, h)
				for do := range answers {
					if !onlyHTTP1[do] {
						seen[i] = append(seen[i], talk(t, c, "GET", srv.URL+"/a%2Fb?q", do, nil), talk(t, c, "HEAD", srv.URL+"/a b?", do, nil))
					}
				}
				for _, do := range []string{"", "early hints"} {
					for _, body := range []io.Reader{strings.NewReader("body"), io.MultiReader(strings.NewReader("of no known length")), http.NoBody} {
						seen[i] = append(seen[i], talk(t, c, "POST", srv.URL, do, body))
					}
				}
				slices.Sort(seen[i])
			}
			for k, got := range seen[1] {
				if want := seen[0][k]; got != want {
					t.Errorf("in the process:\n%s\nin the host:\n%s", got, want)
				}
			}
		})
	}
}

// talk sends a request with a trailer, and returns the answer.
func talk(t testing.TB, c *http.Client, method, url, do string, body io.Reader) string {
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "shop.example:444"
	if do != "" {
		r.Header.Set("Do", do)
	}
	if r.ContentLength < 0 {
		r.Trailer = http.Header{"Sum": {"42"}}
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := c.Do(r)
	if err != nil {
		return fmt.Sprint(method, do, "no answer")
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	res.Header.Del("Date")
	if strings.HasPrefix(res.Header.Get("Content-Type"), "multipart") {
		b = nil
	}
	if res.ProtoMajor == 2 { // its server counts longer bodies
		res.Header.Del("Content-Length")
		res.ContentLength, err = 0, nil
	}
	return fmt.Sprintln(method, do, res.Proto, res.Status, res.Header, res.ContentLength, res.TransferEncoding, res.Trailer, err != nil, string(b))
}

// Trailers arrive also if the length of the body was known, which HTTP/2 allows.
func TestTrailersAfterABodyOfKnownLength(t *testing.T) {
	srv, c := behind(t, "HTTP/2", passing(t, "mirror"))
	r, _ := http.NewRequestWithContext(t.Context(), "POST", srv.URL, strings.NewReader("body"))
	r.Trailer = http.Header{"Sum": {"42"}}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); !strings.Contains(string(b), `body: "body", whole: true`+"\n"+`Sum: ["42"]`) {
		t.Errorf("%s", b)
	}
}

// If an answer is dropped for its status while the client still sends the body, the stable handler gets all of the body: over HTTP/2 too,
// where the reading could be ended for good.
func TestBodyGoesOnAfterADroppedStatus(t *testing.T) {
	process := passing(t, "streams")
	for _, name := range []string{"HTTP/1.1 over TLS", "HTTP/2"} {
		begun := make(chan struct{}, 1)
		stable := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begun <- struct{}{}
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "stable %s %v", b, err)
		})
		srv, c := behind(t, name, canary.NewRouter(stable, process, canary.Options{Weight: canary.Fixed(1), Logger: quiet, Rescue: &canary.Rescue{
			Also: func(*http.Request) bool { return true }, Status: canary.ServerError,
		}}))
		body, w := io.Pipe()
		go func() { // ends with the request
			io.WriteString(w, "one ")
			<-begun
			io.WriteString(w, "two")
			w.Close()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, "PUT", srv.URL+"/broken", body)
		res, err := c.Do(r)
		if err != nil {
			close(begun)
			t.Fatal(name, err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(b) != "stable one two <nil>" {
			t.Errorf("%s: %s", name, b)
		}
	}
}
