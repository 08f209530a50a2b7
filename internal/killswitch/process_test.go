//go:build unix

package killswitch

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

const (
	patience = 30 * time.Second
	changes  = 100
)

// roleSwitch is the switch of a role, on the file in FILE.
func roleSwitch() *Switch {
	s := new(Switch)
	s.Start(Options{Package: "canary", Name: "cart", File: os.Getenv("FILE"), Logger: slog.New(slog.DiscardHandler)})
	return s
}

// killerRole kills so many times that each is acknowledged.
func killerRole() int {
	s := roleSwitch()
	for i := range changes {
		if err := s.Kill(strconv.Itoa(i)); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	fmt.Println("id", s.me.ID)
	return 0
}

// reviverRole revives as often. That another process has killed meanwhile is no failure.
func reviverRole() int {
	s := roleSwitch()
	for range changes {
		if err := s.Revive("mended"); err != nil && s.Word() == Open || s.Status().FileError != "" {
			fmt.Println(err)
			return 1
		}
	}
	return 0
}

// flipperRole kills and revives until it is killed itself, and says what was acknowledged.
func flipperRole() int {
	s := roleSwitch()
	for {
		if err := errors.Join(s.Kill("bad"), s.Revive("mended"), s.Kill("bad again")); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("killed")
	}
}

func role(t *testing.T, name, path string) *testutil.Proc {
	return testutil.Start(t, name, testutil.Cfg{Env: []string{"FILE=" + path}})
}

// Two processes that kill and one that revives the same file at once lose nothing: all kills are counted, and what is cleared was
// made before.
func TestProcessesLoseNoKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kill")
	a, b, reviver := role(t, "killer", path), role(t, "killer", path), role(t, "reviver", path)
	for _, p := range []*testutil.Proc{a, b, reviver} {
		if code, err := p.Wait(patience); code != 0 || err != nil {
			t.Fatalf("exit %d, %v: %s", code, err, p.Output())
		}
	}
	s := open(t, path, nil)
	for _, p := range []*testutil.Proc{a, b} {
		id := strings.TrimSpace(strings.TrimPrefix(p.Output(), "id "))
		found := false
		for _, w := range s.state.Writers {
			found = found || w.ID == id && w.Kill.Made == changes && w.Kill.Reason == strconv.Itoa(changes-1)
		}
		if !found {
			t.Errorf("kills of %s were lost: %+v", id, s.state)
		}
	}
	must(t, s.Kill("last"))
	wantWord(t, "restart", open(t, path, nil), Killed)
}

// A process that is killed at any moment leaves a file that can be read, in which every change is that was acknowledged.
func TestKillOutlivesKill9(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kill")
	for range rounds(10, 3) {
		p := role(t, "flipper", path)
		p.WaitOutput(patience, "killed")
		p.Kill()
		s := open(t, path, nil)
		if st := s.Status(); strings.Contains(st.Reason, "cannot be used") {
			t.Fatalf("%+v", st)
		}
		made := uint64(0)
		for _, w := range s.state.Writers {
			if w.PID == p.PID() {
				made = max(made, w.Kill.Made)
			}
		}
		if acknowledged := uint64(strings.Count(p.Output(), "\n")); made < 2*acknowledged {
			t.Errorf("%d of %d kills are in the file", made, 2*acknowledged)
		}
		must(t, s.Kill("by the next one"))
		wantWord(t, "restart", open(t, path, nil), Killed)
		must(t, s.Revive("mended"))
		wantWord(t, "restart", open(t, path, nil), Open)
	}
}
