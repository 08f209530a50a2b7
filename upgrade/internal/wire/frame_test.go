//go:build unix

package wire

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wiretest"
)

func receive(t testing.TB, w *wiretest.Transport) []Frame {
	t.Helper()
	l := NewLink(w)
	var got []Frame
	for f := range l.Frames {
		got = append(got, f)
	}
	l.Close()
	return got
}

// The frames do not depend on the portions in which the bytes arrive. Unknown fields and unknown kinds do no harm.
func TestFramesSurviveAnySplit(t *testing.T) {
	var all []byte
	for _, k := range []Kind{KindPrepared, 99, KindFailed} {
		b, err := Encode(k, map[string]any{"reason": "r", "field of a later version": 1}, 0)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	for cut := 1; cut < len(all); cut++ {
		got := receive(t, &wiretest.Transport{Pieces: [][]byte{all[:cut], all[cut:]}})
		if len(got) != 3 || got[0].Kind != KindPrepared || got[1].Kind != 99 || got[2].Kind != KindFailed {
			t.Fatalf("cut at %d: %v", cut, got)
		}
		var body FailedBody
		if err := got[2].Decode(&body); err != nil || body.Reason != "r" {
			t.Fatalf("cut at %d: %+v, %v", cut, body, err)
		}
	}
}

// If a peer sends bytes that are no frame, the link ends, and the received descriptors are closed.
func TestRubbishEndsTheLink(t *testing.T) {
	good, err := Encode(KindPrepared, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	huge := append([]byte("mdr1\x01\x00\x00\x00"), 0xff, 0xff, 0xff, 0xff)
	missing, err := Encode(KindWelcome, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, rubbish := range map[string][]byte{
		"magic": []byte("GET / HTTP/1.1\r\n"), "length": huge, "missing descriptor": missing,
	} {
		got := receive(t, &wiretest.Transport{Pieces: [][]byte{good, rubbish, good}})
		if len(got) != 1 {
			t.Errorf("%s: %d frames, want the one before it", name, len(got))
		}
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	receive(t, &wiretest.Transport{Pieces: [][]byte{[]byte("rubbish rubbish")}, Files: [][]*os.File{{file}}})
	if err := file.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a descriptor that came with rubbish is still open: %v", err)
	}
}

// Each frame gets as many descriptors as its header announces.
func TestDescriptorsStayWithTheirFrame(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := Encode(KindPrepared, nil, 0)
	second, _ := Encode(KindCommit, nil, 1)
	got := receive(t, &wiretest.Transport{Pieces: [][]byte{append(first, second...)}, Files: [][]*os.File{{file}}})
	if len(got) != 2 || len(got[0].Files) != 0 || len(got[1].Files) != 1 {
		t.Fatalf("frames %v", got)
	}
	got[1].Close()
}

// Descriptors that no frame announces do not go to the next frame.
func TestStrayDescriptorsEndTheLink(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := Encode(KindPrepared, nil, 0)
	second, _ := Encode(KindCommit, nil, 1)
	got := receive(t, &wiretest.Transport{Pieces: [][]byte{first, second}, Files: [][]*os.File{{file}}})
	if len(got) != 1 || !errors.Is(file.Close(), os.ErrClosed) {
		t.Fatalf("frames %v", got)
	}
}

// The sender refuses a frame that is too large for the socket's buffer.
func TestFrameTooLargeIsRefused(t *testing.T) {
	if _, err := Encode(KindFailed, FailedBody{Reason: string(make([]byte, frameLimit))}, 0); err == nil {
		t.Fatal("no error")
	}
}

// Close returns even if Frames is full.
func TestLinkClosesWithUnreadFrames(t *testing.T) {
	b, err := Encode(KindPrepared, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := NewLink(&wiretest.Transport{Pieces: [][]byte{bytes.Repeat(b, 100)}})
	done := make(chan struct{})
	go func() { l.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("close hangs")
	}
}

// String returns the name of a kind in the protocol. For an unknown kind it returns the number.
func TestKindsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for k := KindHello; k < kindEnd; k++ {
		name := k.String()
		if strings.HasPrefix(name, "kind ") || seen[name] {
			t.Errorf("kind %d is called %q", k, name)
		}
		seen[name] = true
	}
	for _, k := range []Kind{0, kindEnd, 255} {
		if got, want := k.String(), fmt.Sprintf("kind %d", uint8(k)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
