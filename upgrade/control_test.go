package upgrade

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// wireOf is a wire that delivers fixed pieces and then ends.
type wireOf struct {
	pieces [][]byte
	files  [][]*os.File
	sent   [][]byte
}

func (w *wireOf) send(b []byte, _ []*os.File) error { w.sent = append(w.sent, b); return nil }

func (w *wireOf) recv(b []byte) (int, []*os.File, error) {
	if len(w.pieces) == 0 {
		return 0, nil, io.EOF
	}
	n := copy(b, w.pieces[0])
	w.pieces = w.pieces[1:]
	var files []*os.File
	if len(w.files) > 0 {
		files, w.files = w.files[0], w.files[1:]
	}
	return n, files, nil
}

func (w *wireOf) Close() error { return nil }

func receive(t testing.TB, w *wireOf) []frame {
	t.Helper()
	l := newLink(w)
	var got []frame
	for f := range l.frames {
		got = append(got, f)
	}
	l.close()
	return got
}

// However the bytes arrive, the frames are the same; unknown fields and unknown kinds do no harm.
func TestFramesSurviveAnySplit(t *testing.T) {
	var all []byte
	for _, k := range []kind{kindPrepared, 99, kindFailed} {
		b, err := encodeFrame(k, map[string]any{"reason": "r", "field of a later version": 1}, 0)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	for cut := 1; cut < len(all); cut++ {
		got := receive(t, &wireOf{pieces: [][]byte{all[:cut], all[cut:]}})
		if len(got) != 3 || got[0].kind != kindPrepared || got[1].kind != 99 || got[2].kind != kindFailed {
			t.Fatalf("cut at %d: %v", cut, got)
		}
		var body failedBody
		if err := got[2].decode(&body); err != nil || body.Reason != "r" {
			t.Fatalf("cut at %d: %+v, %v", cut, body, err)
		}
	}
}

// A peer that sends rubbish is cut off, and what was received from it is closed.
func TestRubbishEndsTheLink(t *testing.T) {
	good, err := encodeFrame(kindPrepared, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	huge := append([]byte("mdr1\x01\x00\x00\x00"), 0xff, 0xff, 0xff, 0xff)
	missing, err := encodeFrame(kindWelcome, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, rubbish := range map[string][]byte{
		"magic": []byte("GET / HTTP/1.1\r\n"), "length": huge, "missing descriptor": missing,
	} {
		got := receive(t, &wireOf{pieces: [][]byte{good, rubbish, good}})
		if len(got) != 1 {
			t.Errorf("%s: %d frames, want the one before it", name, len(got))
		}
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	receive(t, &wireOf{pieces: [][]byte{[]byte("rubbish rubbish")}, files: [][]*os.File{{file}}})
	if err := file.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a descriptor that came with rubbish is still open: %v", err)
	}
}

// Descriptors belong to the frame that announces them.
func TestDescriptorsStayWithTheirFrame(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := encodeFrame(kindPrepared, nil, 0)
	second, _ := encodeFrame(kindCommit, nil, 1)
	got := receive(t, &wireOf{pieces: [][]byte{append(first, second...)}, files: [][]*os.File{{file}}})
	if len(got) != 2 || len(got[0].files) != 0 || len(got[1].files) != 1 {
		t.Fatalf("frames %v", got)
	}
	got[1].close()
}

// Descriptors that no frame announces are not kept for the next one.
func TestStrayDescriptorsEndTheLink(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := encodeFrame(kindPrepared, nil, 0)
	second, _ := encodeFrame(kindCommit, nil, 1)
	got := receive(t, &wireOf{pieces: [][]byte{first, second}, files: [][]*os.File{{file}}})
	if len(got) != 1 || !errors.Is(file.Close(), os.ErrClosed) {
		t.Fatalf("frames %v", got)
	}
}

// A frame too large for the socket's buffer is refused by its sender.
func TestFrameTooLargeIsRefused(t *testing.T) {
	if _, err := encodeFrame(kindFailed, failedBody{Reason: string(make([]byte, frameLimit))}, 0); err == nil {
		t.Fatal("no error")
	}
}

// A reader that nobody empties does not keep close from returning.
func TestLinkClosesWithUnreadFrames(t *testing.T) {
	b, err := encodeFrame(kindPrepared, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := newLink(&wireOf{pieces: [][]byte{bytes.Repeat(b, 100)}})
	done := make(chan struct{})
	go func() { l.close(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("close hangs")
	}
}
