//go:build unix

// Package wiretest has what tests of the control protocol share: a transport with fixed content, input for fuzz targets,
// and a witness of descriptors that are not closed.
package wiretest

import (
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/sys"
)

// Transport delivers fixed pieces, then ends. It is a wire.Transport.
type Transport struct {
	Pieces [][]byte     // what is received, a piece a call
	Files  [][]*os.File // the descriptors that come with each piece
	Sent   func([]byte) // gets what is sent; nil: nobody does
}

// Send passes b to Sent. The files stay the caller's.
func (t *Transport) Send(b []byte, _ []*os.File) error {
	if t.Sent != nil {
		t.Sent(b)
	}
	return nil
}

// Recv returns the next piece with its descriptors, or io.EOF.
func (t *Transport) Recv(b []byte) (int, []*os.File, error) {
	if len(t.Pieces) == 0 {
		return 0, nil, io.EOF
	}
	n := copy(b, t.Pieces[0])
	t.Pieces = t.Pieces[1:]
	var files []*os.File
	if len(t.Files) > 0 {
		files, t.Files = t.Files[0], t.Files[1:]
	}
	return n, files, nil
}

// Close does nothing.
func (t *Transport) Close() error { return nil }

// Witness is a pipe whose writing ends go to the code under test: the reading end tells when all of them are closed.
type Witness struct{ r, w *os.File }

// NewWitness makes the pipe. MustBeGone closes both of its ends.
func NewWitness(t *testing.T) Witness {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return Witness{r, w}
}

// File returns another writing end, which the code under test has to close.
func (w Witness) File(t *testing.T) *os.File {
	t.Helper()
	f, err := sys.DupFile(w.w)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Lend returns n times the writing end that is the witness's own.
func (w Witness) Lend(n int) []*os.File { return slices.Repeat([]*os.File{w.w}, n) }

// MustBeGone fails the test if a writing end is still open.
func (w Witness) MustBeGone(t *testing.T) {
	t.Helper()
	w.w.Close()
	defer w.r.Close()
	_ = w.r.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := w.r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("a descriptor is leaked: %v", err)
	}
}

// InTime fails the test if fn hangs.
func InTime(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }() // ends with fn
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it hangs")
	}
}

// Spoil cuts the input of a fuzz target into pieces: the first byte of each piece says how long the piece is and how many
// descriptors come with it.
func Spoil(b []byte) (pieces [][]byte, files []int) {
	for len(b) > 1 {
		n := min(1+int(b[0]>>2)*16, len(b)-1)
		pieces, files = append(pieces, b[1:1+n]), append(files, int(b[0]&3))
		b = b[1+n:]
	}
	return pieces, files
}

// CutUp is the opposite of Spoil: pieces of at most 400 bytes with one descriptor each.
func CutUp(b []byte) (out []byte) {
	for len(b) > 0 {
		n := min(25, len(b)/16)
		if n == 0 {
			return append(append(out, 1), b...)
		}
		out = append(append(out, byte(n-1)<<2|1), b[:1+(n-1)*16]...)
		b = b[1+(n-1)*16:]
	}
	return out
}

// Talk sends what Spoil makes of b, with descriptors of the witness, until send fails.
func Talk(send func(b []byte, files []*os.File) error, b []byte, w Witness) {
	pieces, files := Spoil(b)
	for i, p := range pieces {
		if send(p, w.Lend(files[i])) != nil {
			return
		}
	}
}
