package frame_test

import (
	"strings"
	"testing"

	"github.com/midair-go/midair/drain/internal/frame"
)

const switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"

// The end of each frame is found. Another frame may be written at the end of a frame if no message is open.
func TestWebSocketFindsBorders(t *testing.T) {
	for _, answered := range []bool{false, true} {
		var w frame.WebSocket
		if answered {
			w.Answered()
		} else if n, end := w.Next([]byte(switching + "\x81")); n != len(switching) || end {
			t.Errorf("%d bytes of the answer were taken, end %v", n, end)
		}
		if !w.Between() {
			t.Error("no frame may be written after the answer")
		}
		for i, part := range []struct {
			frame            string
			between, closing bool
		}{
			{"\x81\x00", true, false},
			{"\x82\x05hello", true, false},
			{"\x01\x03abc", false, false},
			{"\x89\x02hi", false, false}, // a PING within a message
			{"\x00\x7e\x00\x80" + strings.Repeat("x", 128), false, false},
			{"\x80\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + strings.Repeat("y", 65536), true, false},
			{"\x8a\x00", true, false},
			{"\x88\x02\x03\xe8", true, true},
		} {
			n, end := w.Next([]byte(part.frame + "next"))
			if n != len(part.frame) || !end || w.Between() != part.between || w.Closing() != part.closing {
				t.Errorf("frame %d, %.20q: %d bytes of %d, end %v, between %v, closing %v", i, part.frame, n, len(part.frame), end,
					w.Between(), w.Closing())
			}
		}
	}
}

// The end of the answer is found wherever the answer is cut. Only an empty line is an end.
func TestWebSocketFindsTheEndOfTheAnswer(t *testing.T) {
	for _, answer := range []string{switching, "HTTP/1.1 101\r\n\r\n", "HTTP/1.1 101\r\r\n\r\r\nx: \r\n\r\n", "H\n\n\r\n\r\n"} {
		for cut := 1; cut < len(answer); cut++ {
			var w frame.WebSocket
			for _, part := range []string{"", answer[:cut], "", answer[cut:]} {
				if w.Between() {
					t.Errorf("%q cut at %d: a frame may be written before %q", answer, cut, part)
				}
				if n, end := w.Next([]byte(part)); n != len(part) || end {
					t.Errorf("%q cut at %d: %d bytes of %q, end %v", answer, cut, n, part, end)
				}
			}
			if !w.Between() {
				t.Errorf("%q cut at %d: the end was not found", answer, cut)
			}
		}
	}
}
