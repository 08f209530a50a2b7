package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/cloudflare/tableflip"
	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// joining fills the origin and the estate of a new process with what the old process sends: sockets, values and settings.
type joining struct {
	origin *origin
	estate *estate
}

// join finds the control socket to the old process, and calls meet.
func (j *joining) join(fds *tableflip.Fds) error {
	o, e := j.origin, j.estate
	process.Scrub()
	o.born = Outcome{Kind: modeUpgrade.String(), Started: wallClock(), Begun: sys.Uptime()}
	o.generation = 2 // an old process that uses tableflip only sends no number, and counts as generation 1
	e.listeners.ClaimInherited()
	file, err := fds.File(process.ControlName)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if file == nil && e.manager.Supervised() {
		return errors.New("the old process knows tableflip only, and cannot tell the supervisor of this one: stop the service and start it")
	}
	if file == nil {
		o.old = oldTableflip
		return nil
	}
	sock, err := wire.NewSocket(file)
	if err != nil {
		return err
	}
	atStep("new.start")
	o.old, o.link = oldMidair, wire.NewLinkWith(sock, e.broadcasts.Take)
	o.link.AllowMissing(true)
	return j.meet()
}

// meet receives the sockets, sends hello, and handles the answer of the old process. It waits at most Options.Timeout for the
// sockets and the answer together.
func (j *joining) meet() error {
	o, e := j.origin, j.estate
	late := time.NewTimer(e.opts.Timeout)
	defer late.Stop()
	t, err := takeSockets(o.link, late.C, e.opts.Timeout, e.log)
	if t.got > 0 {
		e.listeners.Receive(t.sockets)
		o.inherited = t.kept
	}
	if err == nil {
		atStep("new.sockets")
		err = o.link.Send(wire.KindHello, wire.HelloBody{
			Min: wire.ProtocolMin, Max: wire.ProtocolMax, PID: os.Getpid(), Version: wire.Clip(e.opts.Version), Speaks: true, Listeners: t.got,
		})
	}
	if err == nil || wire.Gone(err) { // a dead old process has perhaps sent its welcome before its death
		atStep("new.hello")
		_ = e.pid.Stage() // done now to save time; an error is ignored, because the checks stage again and report it
		err = j.welcomed(t.early, late.C)
	}
	if err != nil {
		// If this message does not arrive, the old process learns of the failure from the exit status.
		_ = o.link.Send(wire.KindFailed, wire.FailedBody{Phase: string(PhaseStart), Reason: wire.Clip(err.Error())})
		o.link.Close()
		return err
	}
	return nil
}

// welcomed waits for the answer to hello, and handles the answer. If takeSockets has already received the answer, the argument
// early is this answer. When late delivers, the wait ends with an error.
func (j *joining) welcomed(early wire.Frame, late <-chan time.Time) error {
	if early.Kind != 0 {
		return j.answered(early)
	}
	for {
		select {
		case f, ok := <-j.origin.link.Frames:
			if !ok && j.origin.link.Broken != nil {
				return j.origin.link.Broken
			}
			if !ok && j.estate.manager.Supervised() {
				return errors.New("the old process died before this one had its channel to the supervisor: the supervisor starts the service again")
			}
			if !ok {
				j.origin.link.Close()
				j.origin.old, j.origin.link = oldDead, nil
				return nil
			}
			if f.Kind == wire.KindAbort || f.Kind == wire.KindWelcome {
				return j.answered(f)
			}
			f.Close()
		case <-late:
			return fmt.Errorf("the old process did not answer within %v", j.estate.opts.Timeout)
		}
	}
}

func (j *joining) answered(f wire.Frame) error {
	if f.Kind == wire.KindAbort {
		return refusal(f)
	}
	return j.take(f)
}

// refusal returns an error with the reason in an abort message that came in place of a welcome.
func refusal(f wire.Frame) error {
	defer f.Close()
	var body wire.AbortBody
	_ = f.Decode(&body)
	return fmt.Errorf("the old process does not want this one: %w: %s", ErrAborted, body.Reason)
}

// take reads the welcome. The kept values in it are restored later, when the program calls Keep.
func (j *joining) take(f wire.Frame) error {
	defer f.Close()
	o, e := j.origin, j.estate
	var w wire.WelcomeBody
	if err := f.Decode(&w); err != nil {
		return err
	}
	if err := wire.Overlap(w.Protocol, w.Protocol); err != nil {
		return fmt.Errorf("the old process: %w", err)
	}
	o.generation, o.welcome, o.only, o.detached, o.paths, o.expects = w.Generation, time.Now(), w.Only, w.Detached, w.Paths, w.Expected
	e.listeners.NoteLinks(w.Paths, w.Links)
	o.born.From, o.born.FromPID = w.From, w.PID
	if !w.Started.IsZero() {
		o.born.Kind, o.born.Started, o.born.Begun = w.Kind, w.Started, w.Begun
	}
	o.inherited = append(o.inherited, w.Stored...)
	if !e.broadcasts.Reaches(w.PID) { // otherwise the old process has sent its broadcast socket before
		e.broadcasts.Expect(wire.IntroduceBody{Generation: w.Generation - 1, PID: w.PID})
	}
	o.systemd = w.Names && e.manager != nil && e.manager.SupervisorState() == ""
	o.elder = &elder{ElderBody: wire.ElderBody{Generation: w.Generation - 1, PID: cmp.Or(w.PID, os.Getppid()), Version: w.From}, link: o.link}
	if w.Millis > 0 {
		o.limit = time.Duration(w.Millis) * time.Millisecond
	}
	files := f.Files
	if w.State && len(files) > 0 {
		if err := e.keeper.Receive(files[0]); err != nil {
			e.keeper.Refuse(err)
		}
		files = files[1:]
	}
	if w.Crash && len(files) > 0 {
		_ = debug.SetCrashOutput(files[0], debug.CrashOptions{})
		files = files[1:]
	}
	if e.manager.Supervised() {
		if err := j.takeChannel(w.Channel, files); err != nil {
			return err
		}
	}
	atStep("new.welcomed")
	return nil
}

// takeChannel takes this process's end of its channel to the supervisor. The argument announced is true if the channel came
// with the welcome: then the channel is the first file in files. If announced is false, takeChannel returns an error.
func (j *joining) takeChannel(announced bool, files []*os.File) error {
	if !announced || len(files) == 0 {
		return errors.New("the supervisor does not know of this process: the old one is of another library or another version of it: stop the service and start it")
	}
	file, err := sys.DupFile(files[0])
	if err == nil {
		err = j.estate.manager.Attach(file)
	}
	if err != nil {
		return fmt.Errorf("the channel to the supervisor: %w", err)
	}
	return nil
}
