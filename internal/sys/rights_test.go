//go:build unix

package sys_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/sys"
	"golang.org/x/sys/unix"
)

// receive sends three descriptors over a pair of unix sockets, and returns the files that ReceivedFiles returns.
func receive(t testing.TB) []*os.File {
	t.Helper()
	from, to := unixPair(t)
	_, w := pipe(t)
	fd := int(sys.FD(w))
	if _, _, err := from.WriteMsgUnix([]byte("x"), unix.UnixRights(fd, fd, fd), nil); err != nil {
		t.Fatal(err)
	}
	oob := make([]byte, 256)
	_, oobn, _, _, err := unix.Recvmsg(int(sys.FD(to)), make([]byte, 1), oob, 0)
	if err != nil {
		t.Fatal(err)
	}
	files, err := sys.ReceivedFiles(oob[:oobn])
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	t.Cleanup(func() {
		for _, f := range files {
			f.Close()
		}
	})
	return files
}

// ReceivedFiles returns every descriptor of a message as a file of its own.
func TestReceivedFilesAreApart(t *testing.T) {
	files := receive(t)
	files[0].Close()
	for _, f := range files[1:] {
		inodeOf(t, int(sys.FD(f)))
	}
}

// ReceivedFiles returns an error for control data that cannot be parsed, and no files for empty control data.
func TestReceivedFilesRefusesRubbish(t *testing.T) {
	if files, err := sys.ReceivedFiles([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1}); files != nil || err == nil {
		t.Errorf("rubbish: %v, %v", files, err)
	}
	if files, err := sys.ReceivedFiles(nil); files != nil || err != nil {
		t.Errorf("nothing: %v, %v", files, err)
	}
}

// If Explain is called twice for an error, the text has the advice only once.
func TestAdviceIsSaidOnce(t *testing.T) {
	err := sys.Explain(fmt.Errorf("outside: %w", sys.Explain(fmt.Errorf("inside: %w", syscall.EMFILE))))
	if n := strings.Count(err.Error(), "raise the limit"); n != 1 || !errors.Is(err, syscall.EMFILE) {
		t.Errorf("%v", err)
	}
}

// Explain adds advice for an operator to an error, and wraps the error. It returns other errors unchanged.
func TestExplainAddsAdvice(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{unix.EMFILE, "raise the limit of open files"},
		{unix.ENFILE, "raise the limit of open files"},
		{unix.ENOEXEC, "is the file a complete program for "},
		{unix.EIO, "is the file a complete program for "},
		{unix.ETOOMANYREFS, "raise the limit of open files"},
		{unix.ETXTBSY, "the file is still being written"},
		{unix.EAGAIN, ""}, // no advice, because a full socket returns EAGAIN too
		{unix.ENOMEM, "raise the limit of memory"},
		{unix.ENOENT, ""},
		{io.EOF, ""},
	} {
		in := fmt.Errorf("start the service: %w", c.err)
		out := sys.Explain(in)
		if !errors.Is(out, c.err) || !strings.HasPrefix(out.Error(), in.Error()) {
			t.Errorf("%v has become %v", in, out)
		}
		if advice := strings.TrimPrefix(out.Error(), in.Error()); !strings.HasPrefix(strings.TrimPrefix(advice, ": "), c.want) || (advice == "") != (c.want == "") {
			t.Errorf("%v: the advice is %q, want %q", in, advice, c.want)
		}
	}
	if err := sys.Explain(nil); err != nil {
		t.Errorf("no error has become %v", err)
	}
}
