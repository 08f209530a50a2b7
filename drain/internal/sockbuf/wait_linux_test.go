package sockbuf_test

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/drain/internal/sockbuf"
	"github.com/midair-go/midair/internal/testutil"
)

// Wait returns how many bytes there are, and does not read them. An end, a reset and a deadline have different results.
func TestWaiterTellsBytesEndsAndErrors(t *testing.T) {
	near, far := connected(t)
	w := sockbuf.NewWaiter(far)
	for _, n := range []int{1, 3, 2} { // also after it had to wait
		waited := make(chan struct{})
		go func() { // ends with the bytes
			defer close(waited)
			if got, err := w.Wait(); got < 1 || err != nil {
				t.Errorf("Wait = %d, %v", got, err)
			}
		}()
		near.Write(make([]byte, n))
		<-waited
		for have := 0; have < n; {
			got, err := w.Wait()
			if got < 1 || got > n-have || err != nil {
				t.Fatalf("%d of %d bytes are there, %v", got, n-have, err)
			}
			if read, err := far.Read(make([]byte, got)); read != got || err != nil {
				t.Fatalf("Read = %d, %v; want %d", read, err, got)
			}
			have += got
		}
	}
	far.SetReadDeadline(time.Unix(1, 0))
	if n, err := w.Wait(); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Wait = %d, %v after a deadline", n, err)
	}
	far.SetReadDeadline(time.Time{})
	near.CloseWrite()
	for range 2 {
		if n, err := w.Wait(); n != 0 || err != nil {
			t.Errorf("Wait = %d, %v at the end", n, err)
		}
	}
	near, far = connected(t)
	near.SetLinger(0)
	near.Close()
	if n, err := sockbuf.NewWaiter(far).Wait(); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Wait = %d, %v after a reset", n, err)
	}
}

// If the last Wait had to wait, the next Wait peeks at a byte first. It still returns how many bytes there are.
func TestWaiterCountsAfterItHadToWait(t *testing.T) {
	near, far := connected(t)
	w := sockbuf.NewWaiter(far)
	far.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := w.Wait(); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Wait = %d, %v at the beginning", n, err)
	}
	far.SetReadDeadline(time.Time{})
	near.Write([]byte("abc"))
	testutil.Until(t, patience, "the bytes to be queued", func() bool { return sockbuf.Queued(far) })
	if n, err := w.Wait(); n != 3 || err != nil {
		t.Errorf("Wait = %d, %v; want 3", n, err)
	}
}
