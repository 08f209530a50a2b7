package subprocess_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

func init() {
	programs["mirror"] = func() { serve(http.HandlerFunc(mirror)) }
}

// mirror does what the header line Do says, and answers with what it has found in the request.
func mirror(w http.ResponseWriter, r *http.Request) {
	do := r.Header.Get("Do")
	if f, ok := before[do]; ok {
		f(w, r)
	}
	seen := found(r)
	if f, ok := answers[do]; ok {
		f(w, r)
		return
	}
	if do == "shows" {
		http.NewResponseController(w).Flush() // no length
		do = ""
	}
	if do != "" && before[do] == nil {
		panic("the test has no " + do)
	}
	io.WriteString(w, seen)
}

// found reads a request, and returns everything that a handler can find in it.
func found(r *http.Request) string {
	var b bytes.Buffer
	u := *r.URL
	user := u.User.String()
	u.User = nil
	fmt.Fprintf(&b, "%s %q %#v %q %s %d %d %q\n", r.Method, r.RequestURI, u, user, r.Proto, r.ProtoMajor, r.ProtoMinor, r.Host)
	host, _, _ := strings.Cut(r.RemoteAddr, ":")
	fmt.Fprintf(&b, "%q %v %d %q %v\n", host, r.TLS != nil, r.ContentLength, r.TransferEncoding, r.Close)
	lines := func(h http.Header) {
		names := []string{}
		for name := range h {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			if value := h[name]; len(fmt.Sprint(value)) > 4<<10 {
				fmt.Fprintf(&b, "%s: %d bytes\n", name, len(value[0]))
			} else {
				fmt.Fprintf(&b, "%s: %q\n", name, value)
			}
		}
	}
	lines(r.Header)
	fmt.Fprintln(&b, "trailers before the body:")
	lines(r.Trailer)
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(&b, "body: %q, whole: %v\n", body, err == nil)
	lines(r.Trailer)
	return b.String()
}

// before are the Do lines that do something before the body of the request is read.
var before = map[string]http.HandlerFunc{
	"early hints": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Add("Link", "</b.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Link", "</c.css>")
	},
	"processing": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusProcessing) },
	"continue":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusContinue) },
}

func text(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		if status != 0 {
			w.WriteHeader(status)
		}
		io.WriteString(w, body)
	}
}

// answers are the other Do lines.
var answers = map[string]http.HandlerFunc{
	"nothing":           func(http.ResponseWriter, *http.Request) {},
	"error":             func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no tea", http.StatusTeapot) },
	"redirect":          func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/else where", http.StatusSeeOther) },
	"not found":         http.NotFound,
	"html":              text(0, "<html><body>"),
	"png":               text(0, "\x89PNG\x0D\x0A\x1A\x0A"),
	"empty type":        text(0, "<html>", "Content-Type", ""),
	"encoded":           text(0, "\x1f\x8b\x08 is no gzip", "Content-Encoding", "gzip"),
	"odd status":        text(299, "odd"),
	"status 600":        text(600, "odd"),
	"no content":        text(204, ""),
	"reset content":     text(205, ""),
	"not modified":      text(304, "", "Etag", `"1"`, "Content-Length", "123"),
	"length":            text(0, "12345", "Content-Length", "5"),
	"length 0":          text(0, "", "Content-Length", "0"),
	"too short":         text(0, "12345", "Content-Length", "10"),
	"cookies":           text(0, "", "Set-Cookie", "a=1", "Set-Cookie", "b=2; Path=/", "Set-Cookie", "a=3"),
	"repeated":          text(0, "", "X-A", "2", "X-A", "1", "X-A", "", "x-lower", "1", "Vary", "A", "Vary", "B"),
	"large header":      text(0, "", "X-Large", strings.Repeat("x", 300<<10)),
	"closes":            text(0, "bye", "Connection", "close"),
	"connection":        text(0, "bye", "Connection", "X-Foo", "X-Foo", "1", "Keep-Alive", "timeout=5"),
	"upgrade required":  text(426, "", "Connection", "Upgrade", "Upgrade", "h2c"),
	"identity":          text(0, "until the end", "Transfer-Encoding", "identity"),
	"chunked":           text(0, "small", "Transfer-Encoding", "chunked"),
	"3000 bytes":        text(0, strings.Repeat("abc", 1000)),
	"100000 bytes":      text(0, strings.Repeat("0123456789", 10000)),
	"100000 and length": text(0, strings.Repeat("0123456789", 10000), "Content-Length", "100000"),
	"no date": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"] = nil
		io.WriteString(w, "x")
	},
	"own date": text(0, "x", "Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
	"no type": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		io.WriteString(w, "<html>")
	},
	"flushed": func(w http.ResponseWriter, _ *http.Request) {
		http.NewResponseController(w).Flush()
		io.WriteString(w, "after the flush")
	},
	"flushed at the end": func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "before the flush")
		http.NewResponseController(w).Flush()
	},
	"flushed with length": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4")
		io.WriteString(w, "ab")
		http.NewResponseController(w).Flush()
		io.WriteString(w, "cd")
	},
	"announced trailers": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "Sum")
		io.WriteString(w, "x")
		w.Header().Set("Sum", "42")
	},
	"unannounced trailers": func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "x")
		w.Header().Set(http.TrailerPrefix+"Late", "1")
		w.Header().Add(http.TrailerPrefix+"Late", "2")
	},
	"both trailers": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "Sum")
		http.NewResponseController(w).Flush()
		w.Header().Set("Sum", "1")
		w.Header().Set(http.TrailerPrefix+"Late", "2")
	},
	"content": func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "a.txt", time.Unix(1e9, 0), strings.NewReader(strings.Repeat("0123456789", 500)))
	},
	"panics":             func(http.ResponseWriter, *http.Request) { panic(errors.New("the handler is bad")) },
	"aborts":             func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	"panics with little": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "little"); panic(http.ErrAbortHandler) },
	"panics after a part": func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "part")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	},
	"panics after a part of the length": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "part")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	},
	"hijacks": func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nraw")
	},
}
