package frame_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/midair-go/midair/drain/internal/frame"
)

// Types and flags of HTTP/2 frames.
const (
	data, headers, settings, pushPromise, ping, goAway, continuation = 0, 1, 4, 5, 6, 7, 9
	ack, endHeaders                                                  = 1, 4
)

// question is the payload of the PING in frame.FirstGoAway.
var question = frame.FirstGoAway[len(frame.FirstGoAway)-8:]

// http2Frame is a frame of stream 1.
func http2Frame(kind, flags byte, payload string) string {
	n := len(payload)
	return string([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, 1}) + payload
}

// The end and the type of each frame are found. Another frame may be written at the end of a frame if no block of headers is
// open.
func TestHTTP2FindsBorders(t *testing.T) {
	for _, stream := range [][]struct {
		frame         string
		between, pong bool
	}{
		{
			{http2Frame(settings, 0, "123456"), true, false},
			{http2Frame(settings, ack, ""), true, false},
			{http2Frame(headers, endHeaders, "block"), true, false},
			{http2Frame(data, 0, strings.Repeat("x", 70_000)), true, false},
		},
		{
			{http2Frame(settings, 0, ""), true, false},
			{http2Frame(headers, 0, "a block"), false, false},
			{http2Frame(continuation, 0, ""), false, false},
			{http2Frame(continuation, endHeaders, "ends"), true, false},
			{http2Frame(pushPromise, 0, "so does"), false, false},
			{http2Frame(continuation, endHeaders, "a promise"), true, false},
		},
		{
			{http2Frame(ping, ack, question), true, true},
			{http2Frame(ping, 0, question), true, false},
			{http2Frame(ping, ack, "another!"), true, false},
			{http2Frame(ping, ack, question+"x"), true, false},
			{http2Frame(ping, ack, question[:7]), true, false},
			{http2Frame(goAway, ack, question), true, false},
			{http2Frame(ping, ack, question), true, true},
		},
	} {
		var f frame.HTTP2
		if f.Between() {
			t.Error("a frame may be written before the first")
		}
		for i, part := range stream {
			n, end := f.Next([]byte(part.frame + "next"))
			if n != len(part.frame) || !end || f.Kind() != part.frame[3] || f.Between() != part.between || f.Pong() != part.pong {
				t.Errorf("frame %d, %.20q: %d bytes of %d, end %v, type %d, between %v, pong %v", i, part.frame, n, len(part.frame), end,
					f.Kind(), f.Between(), f.Pong())
			}
		}
	}
}

// FirstGoAway and Hint consist of whole frames, and the answer of the client to the PING is recognized.
func TestHTTP2TextsAreWholeFrames(t *testing.T) {
	for text, want := range map[string]string{frame.FirstGoAway: "7 6 ", frame.Hint: "7 "} {
		var f frame.HTTP2
		kinds := ""
		for rest := []byte(text); len(rest) > 0; {
			n, end := f.Next(rest)
			if !end {
				t.Fatalf("%q ends within a frame", text)
			}
			kinds += fmt.Sprint(f.Kind(), " ")
			rest = rest[n:]
		}
		if kinds != want {
			t.Errorf("%q is of frames %s, want %s", text, kinds, want)
		}
	}
}

// Following the frames allocates nothing.
func TestScannersDoNotAllocate(t *testing.T) {
	h2 := []byte(http2Frame(settings, 0, "123456") + frame.FirstGoAway)
	ws := []byte("HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x05hello")
	if n := testing.AllocsPerRun(100, func() {
		var f frame.HTTP2
		for rest := h2; len(rest) > 0; {
			n, _ := f.Next(rest)
			rest = rest[n:]
		}
		var w frame.WebSocket
		for rest := ws; len(rest) > 0; {
			n, _ := w.Next(rest)
			rest = rest[n:]
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
