package sessiontest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/sessiontest"
)

// The requirements hold on a store in memory, and on a directory.
func TestSecurity(t *testing.T) {
	t.Run("Memory", func(t *testing.T) {
		sessiontest.Security(t, func(*testing.T) session.Store { return newMemory("") })
	})
	t.Run("Dir", func(t *testing.T) {
		sessiontest.Security(t, func(t *testing.T) session.Store { return session.Dir(t.TempDir()) })
	})
}

// TestInsecureStore is run by TestAnInsecureStoreIsFound, in another process.
func TestInsecureStore(t *testing.T) {
	flaw := os.Getenv("FLAW")
	if flaw == "" {
		t.Skip("it is made to fail")
	}
	sessiontest.Security(t, func(*testing.T) session.Store { return newMemory(flaw) })
}

// A store that brings sessions back fails the requirements that it breaks.
func TestAnInsecureStoreIsFound(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for flaw, number := range map[string]string{"expiry": "7.3.1", "blind": "7.4.1"} {
		cmd := exec.Command(self, "-test.run=^TestInsecureStore$")
		cmd.Env = append(os.Environ(), "FLAW="+flaw)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "--- FAIL: TestInsecureStore/"+number) {
			t.Errorf("%s was not found: %v\n%s", flaw, err, out)
		}
	}
}
