package testutil

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is the uid of a user who owns nothing.
const nobody = 65534

// AsNobody runs fn without root's rights to files, in a thread that ends with fn. For another user than root fn runs unchanged.
// Goroutines of fn keep the rights.
func AsNobody(t testing.TB, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and not unlocked: no other goroutine may get this thread
		if os.Getuid() == 0 {
			_ = unix.Setfsuid(nobody) // it never fails, and says so
			if now, err := unix.SetfsuidRetUid(-1); err != nil || now != nobody {
				t.Errorf("the thread could not become uid %d for files: it is %d: %v", nobody, now, err)
				return
			}
		}
		fn()
	}()
	<-done
}
