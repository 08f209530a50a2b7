package testutil

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// Answers of every framing are read to their end and not beyond.
func TestResponseIsReadToItsEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		in     string
		status int
		close  bool
		rest   string
	}{
		"length":       {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcNEXT", 200, false, "NEXT"},
		"no reason":    {"HTTP/1.1 200\r\ncontent-length:0\r\n\r\nNEXT", 200, false, "NEXT"},
		"bare newline": {"HTTP/1.1 200 OK\nContent-Length: 0\n\nNEXT", 200, false, "NEXT"},
		"chunked": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: x\r\n\r\nNEXT",
			200, false, "NEXT"},
		"interim":      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\nNEXT", 204, false, "NEXT"},
		"not modified": {"HTTP/1.1 304 Same\r\nContent-Length: 100\r\n\r\nNEXT", 304, false, "NEXT"},
		"until end":    {"HTTP/1.1 200 OK\r\n\r\nall of it", 200, true, ""},
		"close":        {"HTTP/1.1 503 Busy\r\nCONNECTION: Close\r\nContent-Length: 0\r\n\r\nNEXT", 503, true, "NEXT"},
		"old":          {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nxNEXT", 200, true, "NEXT"},
	} {
		t.Run(name, func(t *testing.T) {
			br := bufio.NewReader(iotest.OneByteReader(strings.NewReader(tt.in)))
			var r response
			if err := r.read(br); err != nil {
				t.Fatal(err)
			}
			rest, _ := io.ReadAll(br)
			if r.status != tt.status || r.close != tt.close || string(rest) != tt.rest {
				t.Errorf("status %d, close %v, rest %q", r.status, r.close, rest)
			}
		})
	}
}

// The names of the process that answered do not outlive their answer.
func TestResponseNamesItsProcess(t *testing.T) {
	br := bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\nx-version: v1\r\nX-Generation: 2 \r\nX-PID: 77\r\nContent-Length: 0\r\n\r\n" +
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	var r response
	for _, want := range []string{"v1,2,77", ",,"} {
		if err := r.read(br); err != nil {
			t.Fatal(err)
		}
		if got := string(r.version) + "," + string(r.generation) + "," + string(r.pid); got != want {
			t.Errorf("answered by %q, want %q", got, want)
		}
	}
	if err := r.read(br); err != io.EOF || r.begun {
		t.Errorf("read at the end: %v, begun %v", err, r.begun)
	}
}

// What is not HTTP/1.1 is malformed, what ends early is cut.
func TestResponseRefusesNonsense(t *testing.T) {
	for in, want := range map[string]error{
		"HTTP/2 200\r\n\r\n":                            errMalformed,
		"HTTP/1.1 abc\r\n\r\n":                          errMalformed,
		"HTTP/1.1 099 Low\r\n\r\n":                      errMalformed,
		"\r\n":                                          errMalformed,
		"HTTP/1.1 200 OK\r\nnofield\r\n\r\n":            errMalformed,
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n": errMalformed,
		"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n":   errMalformed,
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n": errMalformed,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n":       errMalformed,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n": errMalformed,
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 1<<17) + "\r\n\r\n":   errMalformed,
		"H":                             io.ErrUnexpectedEOF,
		"HTTP/1.1 200 OK\r\nContent-L":  io.ErrUnexpectedEOF,
		"HTTP/1.1 100 Continue\r\n\r\n": io.ErrUnexpectedEOF,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab": io.ErrUnexpectedEOF,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n":   io.ErrUnexpectedEOF,
	} {
		var r response
		if err := r.read(bufio.NewReader(strings.NewReader(in))); !errors.Is(err, want) || !r.begun {
			t.Errorf("%.60q: %v, want %v", in, err, want)
		}
	}
}

// Reading an answer allocates nothing.
func TestResponseDoesNotAllocate(t *testing.T) {
	in := strings.NewReader("HTTP/1.1 200 OK\r\nX-Version: v1\r\nX-Pid: 77\r\nDate: Mon\r\nContent-Length: 2\r\n\r\nok")
	br := bufio.NewReader(in)
	var r response
	n := testing.AllocsPerRun(100, func() {
		in.Seek(0, io.SeekStart)
		br.Reset(in)
		if err := r.read(br); err != nil {
			t.Error(err)
		}
	})
	if n >= 1 {
		t.Errorf("%v allocations an answer", n)
	}
}

// Whatever this parser reads without an error, the one of net/http reads as the same answer.
func FuzzResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	f.Add("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		var r response
		if err := r.read(bufio.NewReader(strings.NewReader(in))); err != nil {
			return
		}
		std, err := http.ReadResponse(bufio.NewReader(strings.NewReader(in)), nil)
		if err == nil && std.StatusCode >= 200 && std.StatusCode != r.status {
			t.Errorf("%q: status %d, want %d", in, r.status, std.StatusCode)
		}
	})
}
