package frame_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/midair-go/midair/drain/internal/frame"
)

// The corpus in testdata was recorded. It has the bytes that clients and servers of net/http, curl, grpc-go, coder/websocket
// and gorilla/websocket sent in a drain, without the preface of HTTP/2.

// A border is the end of a frame, or the end of the HTTP answer before the first frame of a WebSocket.
type border struct {
	frame   bool // a frame ends
	between bool // a frame of our own may be written
	kind    byte // of HTTP/2
	pong    bool // of HTTP/2
	closing bool // of WebSocket
}

// http2Borders returns the borders of a whole stream as RFC 9113, section 4.1, defines them. The keys are offsets in the
// stream.
func http2Borders(b []byte) map[int]border {
	all := map[int]border{}
	block := false
	for at := 0; len(b)-at >= 9; {
		size := int(binary.BigEndian.Uint32(append([]byte{0}, b[at:at+3]...)))
		kind, flags := b[at+3], b[at+4]
		if size > len(b)-at-9 {
			break
		}
		payload := b[at+9 : at+9+size]
		if kind == headers || kind == pushPromise || kind == continuation {
			block = flags&endHeaders == 0
		}
		at += 9 + size
		all[at] = border{frame: true, between: !block, kind: kind, pong: kind == ping && flags&ack != 0 && string(payload) == question}
	}
	return all
}

// webSocketBorders returns the borders of a whole stream as RFC 6455, section 5.2, defines them. The keys are offsets in the
// stream.
func webSocketBorders(b []byte, answered bool) map[int]border {
	all := map[int]border{}
	if answered {
		all[0] = border{between: true}
	}
	within := false // a message
	for at := 0; ; {
		if !answered && at < len(b) && b[at] == 'H' {
			i := bytes.Index(b[at:], []byte("\r\n\r\n"))
			if i < 0 {
				return all
			}
			at, answered = at+i+4, true
			all[at] = border{between: !within}
			continue
		}
		head, size, ok := webSocketHead(b[at:])
		if !ok || size > uint64(len(b)-at-head) {
			return all
		}
		final, op := b[at]&0x80 != 0, b[at]&0x0f
		if op < 8 {
			within = !final
		}
		at += head + int(size)
		all[at] = border{frame: true, between: answered && !within, closing: op == 8}
	}
}

// webSocketHead returns the lengths of the header and of the payload of the frame that b begins with. ok reports whether
// the header is complete.
func webSocketHead(b []byte) (head int, size uint64, ok bool) {
	switch {
	case len(b) < 2:
		return 0, 0, false
	case b[1]&0x7f == 126 && len(b) >= 4:
		return 4, uint64(binary.BigEndian.Uint16(b[2:])), true
	case b[1]&0x7f == 127 && len(b) >= 10:
		return 10, binary.BigEndian.Uint64(b[2:]), true
	}
	return 2, uint64(b[1] & 0x7f), b[1]&0x7f < 126
}

// A scanner is what follows a stream.
type scanner interface {
	Next(p []byte) (n int, end bool)
	Between() bool
}

// follow passes the stream to s in pieces of 1+cuts[i] bytes, and then the rest at once. It compares the results of s with the
// borders in all. check is called at the end of each frame.
func follow(t *testing.T, s scanner, stream, cuts []byte, all map[int]border, check func(border) bool) {
	found, at := 0, 0
	if s.Between() != all[0].between {
		t.Fatalf("at the beginning between is %v", s.Between())
	}
	for at < len(stream) {
		piece := stream[at:]
		if len(cuts) > 0 {
			piece, cuts = piece[:min(len(piece), 1+int(cuts[0]))], cuts[1:]
		}
		for len(piece) > 0 {
			n, end := s.Next(piece)
			if n < 1 || n > len(piece) {
				t.Fatalf("%d of %d bytes were taken at %d", n, len(piece), at)
			}
			piece = piece[n:]
			at += n
			want, here := all[at]
			if end != want.frame || s.Between() != want.between || end && !check(want) {
				t.Fatalf("at %d: end %v, between %v, want %+v", at, end, s.Between(), want)
			}
			if !end && !here && len(piece) > 0 {
				t.Fatalf("Next stopped at %d, which is no border, with %d bytes left", at, len(piece))
			}
			if here {
				found++
			}
		}
	}
	if _, begun := all[0]; begun {
		found++
	}
	if found != len(all) {
		t.Fatalf("%d of %d borders were found", found, len(all))
	}
}

// single cuts a stream into its bytes.
func single(stream []byte) []byte { return make([]byte, len(stream)) }

// Wherever a stream of HTTP/2 is cut, the same ends of frames are found as in the whole stream, and Next never takes more bytes
// than it gets.
func FuzzHTTP2(f *testing.F) {
	f.Add([]byte(frame.FirstGoAway+frame.Hint), []byte{0, 8, 3})
	f.Add([]byte(http2Frame(headers, 0, "ab")+http2Frame(continuation, endHeaders, "")+http2Frame(ping, ack, question)), []byte{})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		all := http2Borders(stream)
		for _, cuts := range [][]byte{nil, cuts, single(stream)} {
			var s frame.HTTP2
			follow(t, &s, stream, cuts, all, func(want border) bool { return s.Kind() == want.kind && s.Pong() == want.pong })
		}
	})
}

// WebSocket: the same.
func FuzzWebSocket(f *testing.F) {
	f.Add(false, []byte(switching+"\x81\x05hello\x88\x02\x03\xe8"), []byte{0, 8, 3})
	f.Add(true, []byte("\x01\x7e\x00\x02hi\x80\x7f\x00\x00\x00\x00\x00\x00\x00\x01!"), []byte{})
	f.Add(false, []byte("HTTP/1.1 101\r\r\n\r\n\x81\x00"), []byte{})
	f.Add(false, []byte("\x81H"+strings.Repeat("x", 'H')), []byte{}) // a frame without an answer before
	f.Fuzz(func(t *testing.T, answered bool, stream, cuts []byte) {
		all := webSocketBorders(stream, answered)
		for _, cuts := range [][]byte{nil, cuts, single(stream)} {
			var s frame.WebSocket
			if answered {
				s.Answered()
			}
			follow(t, &s, stream, cuts, all, func(want border) bool { return s.Closing() == want.closing })
		}
	})
}
