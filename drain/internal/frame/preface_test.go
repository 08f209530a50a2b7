package frame_test

import (
	"testing"

	"github.com/midair-go/midair/drain/internal/frame"
)

// The preface is recognized by its first line, wherever the line is cut. Other bytes are not taken as the preface.
func TestPrefaceIsKnownByItsLine(t *testing.T) {
	for text, want := range map[string]bool{
		frame.ClientPreface: true, frame.ClientPreface + "more": true, "PRI * HTTP/2.0": true,
		"": false, "PRI * HTTP/2.": false, "PRI * HTTP/1.1\r\n\r\n": false, "PRINT / HTTP/1.1\r\n\r\n": false,
		"xPRI * HTTP/2.0": false, "PPRI * HTTP/2.0": false,
	} {
		for first := range len(text) + 1 {
			for second := first; second <= len(text); second++ {
				var f frame.Preface
				for _, part := range []string{text[:first], text[first:second]} {
					f.Next([]byte(part))
				}
				if got := f.Next([]byte(text[second:])); got != want {
					t.Errorf("%q cut at %d and %d: %v, want %v", text, first, second, got, want)
				}
			}
		}
	}
}
