package upgrade

import (
	"cmp"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// take reads the welcome. What the state holds is found out when the program calls Keep.
func (u *Upgrader) take(f wire.Frame) error {
	defer f.Close()
	var w wire.WelcomeBody
	if err := f.Decode(&w); err != nil {
		return err
	}
	if err := wire.Overlap(w.Protocol, w.Protocol); err != nil {
		return fmt.Errorf("the old process: %w", err)
	}
	u.generation, u.welcome, u.only, u.paths, u.expects = w.Generation, time.Now(), w.Only, w.Paths, w.Expected
	u.listeners.NoteLinks(w.Paths, w.Links)
	u.born.From, u.born.FromPID = w.From, w.PID
	if !w.Started.IsZero() {
		u.born.Kind, u.born.Started, u.born.Begun = w.Kind, w.Started, w.Begun
	}
	u.inherited = append(u.inherited, w.Stored...)
	u.detached = w.Detached
	u.systemd = w.Names && u.manager != nil && u.manager.SupervisorState() == ""
	u.elder = &elder{ElderBody: wire.ElderBody{Generation: w.Generation - 1, PID: cmp.Or(w.PID, os.Getppid()), Version: w.From}, link: u.parent}
	if w.Millis > 0 {
		u.limit = time.Duration(w.Millis) * time.Millisecond
	}
	files := f.Files
	if w.State && len(files) > 0 {
		if err := u.keeper.Receive(files[0]); err != nil {
			u.keeper.Refuse(err)
		}
		files = files[1:]
	}
	if w.Crash && len(files) > 0 {
		_ = debug.SetCrashOutput(files[0], debug.CrashOptions{})
		files = files[1:]
	}
	if u.manager.Supervised() {
		if err := u.takeChannel(w.Channel, files); err != nil {
			return err
		}
	}
	atStep("new.welcomed")
	return nil
}
