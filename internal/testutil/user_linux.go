package testutil

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is the uid of a user who owns nothing.
const nobody = 65534

// AsNobody runs fn with the rights to files of a user who owns nothing, in a thread that ends with fn. If this process does
// not run as root, fn runs with the rights of the process. Goroutines that fn starts have the rights of the process too.
func AsNobody(t testing.TB, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread ends with the goroutine, so no other goroutine runs in it
		if os.Getuid() == 0 {
			_ = unix.Setfsuid(nobody) // never returns an error, even if the uid does not change
			if now, err := unix.SetfsuidRetUid(-1); err != nil || now != nobody {
				t.Errorf("the thread could not become uid %d for files: it is %d: %v", nobody, now, err)
				return
			}
		}
		fn()
	}()
	<-done
}
