package drain_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/drain"
)

// While ServeTLS reads the file of a certificate, Status returns. The loop of a drain calls Status for its log.
func TestStatusDoesNotWaitForACertificate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cert")
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := prepare(t, &http.Server{}, drain.Options{})
	s.run(func(ctx context.Context) error { return s.ServeTLS(ctx, ln, file, file) })
	w, err := os.OpenFile(file, os.O_WRONLY, 0) // waits until ServeTLS has opened the file
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(file) // ServeTLS opens the file once more, and fails then
	status := make(chan drain.Status, 1)
	go func() { status <- s.Status() }() // ends at the latest when w is closed
	select {
	case <-status:
	case <-time.After(patience):
		t.Error("Status has not returned")
	}
	w.Close()
	if err := s.wait(); err == nil {
		t.Error("Serve = nil without a certificate")
	}
}
