//go:build linux

package upgrade

import (
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/process"
)

// If options are invalid, the log names them, and Supervise returns at once. It also returns at once if a supervisor is not
// wanted.
func TestSuperviseOnlyWhereItIsWanted(t *testing.T) {
	for _, o := range []Options{{Supervisor: "pid1"}, {Supervisor: "never"}, {Supervisor: "allways"}, {Supervisor: "always", Guard: -1}} {
		if code, ok := Supervise(o); ok || code != 0 {
			t.Errorf("%+v: %d, %v", o, code, ok)
		}
	}
	if _, err := (Options{Supervisor: "allways"}).withDefaults(); err == nil || !strings.Contains(err.Error(), `"allways"`) {
		t.Errorf("%v", err)
	}
	t.Setenv(process.Sentinel, "yes")
	if _, ok := Supervise(Options{}); ok {
		t.Error("a candidate supervises")
	}
}

// By default the supervisor gives up after some minutes. As process 1 it gives up only if the program sets a limit.
func TestProcessOneDoesNotGiveUp(t *testing.T) {
	for _, c := range []struct {
		option time.Duration
		pid    int
		want   time.Duration
	}{{0, 7, 5 * time.Minute}, {0, 1, 0}, {time.Hour, 7, time.Hour}, {time.Hour, 1, time.Hour}, {-1, 7, 0}, {-1, 1, 0}} {
		if got := giveUp(c.option, c.pid); got != c.want {
			t.Errorf("GiveUp %v as process %d: %v, want %v", c.option, c.pid, got, c.want)
		}
	}
}
