package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// How an attempt waits for the next event. The events are the columns of the table in stages.go.

// await has the conditions that a stage waits for. When a condition comes true, attempt.next returns the event for this
// condition. The zero value has no conditions: next returns the event finished at once.
type await struct {
	err   error           // why the work of the stage could not begin; nil: it has begun
	want  wire.Kind       // the message that the stage waits for; 0: none
	due   time.Time       // when the time of the stage is over; zero: no limit
	work  *work           // the work, in another goroutine, whose end the stage waits for; nil: none
	over  <-chan struct{} // next returns the event finished when this channel is closed; not used if work is set; nil: none
	stops <-chan struct{} // closed when the whole service is to end; nil: next does not return the event stopped
}

// isOver reports whether the stage has nothing to wait for.
func (w *await) isOver() bool { return w.want == 0 && w.due.IsZero() && w.work == nil && w.over == nil }

// news is an event, with its message or error if the event has one.
type news struct {
	event attEvent
	frame wire.Frame // the message, if the event is answered
	err   error      // the reason, if the event is failed, objected, exited or silent
}

// next waits for the next event that has an effect in the stage. Before the stage dismissing, handle gets the candidate's
// messages. From dismissing on, takeState gets them. So code for a new kind of message belongs in handle, and perhaps in
// takeState as well.
func (a *attempt) next(w *await) news {
	if w.err != nil {
		return news{event: evFailed, err: w.err}
	}
	if w.isOver() {
		return news{event: evFinished}
	}
	var due <-chan time.Time
	if !w.due.IsZero() {
		timer := time.NewTimer(time.Until(w.due))
		defer timer.Stop()
		due = timer.C
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := a.tick(); err != nil {
				return news{event: evSilent, err: err}
			}
		case f, ok := <-when(a.received.call == nil, a.received.frames):
			if n, found := a.receive(f, ok, w.want); found {
				return n
			}
		case <-a.received.call.ended():
			err := a.received.call.err
			if a.received.call = nil; err != nil {
				return news{event: evObjected, err: err}
			}
		case <-when(a.heeds(evReady), a.received.ready):
			return a.readyByte()
		case <-when(a.heeds(evExited), a.child.exited()):
			return a.exited(w.want)
		case <-due:
			return news{event: evLate}
		case <-w.ended():
			return a.workEnded(w)
		case <-when(a.heeds(evHurried), a.early):
			return news{event: evHurried}
		case <-when(a.heeds(evAborted), a.ctx.Done()):
			return news{event: evAborted}
		case <-w.stops:
			w.stops = nil
			return news{event: evStopped}
		}
	}
}

// when returns c if condition is true. Otherwise it returns nil: in a select, a nil channel is never ready.
func when[T any](condition bool, c <-chan T) <-chan T {
	if !condition {
		return nil
	}
	return c
}

// heeds reports whether the event e has an effect in the present stage: the table neither ignores nor denies e there.
func (a *attempt) heeds(e attEvent) bool {
	do := attTable[a.stage][e].do
	return do != doIgnore && do != doDeny
}

// ended returns a channel that is closed when the work of the stage has ended.
func (w *await) ended() <-chan struct{} {
	if w.work != nil {
		return w.work.done
	}
	return w.over
}

// workEnded returns how the work of the stage has ended. If the attempt was aborted, workEnded returns the event aborted, even
// if the work has an error: the abort may have caused the error.
func (a *attempt) workEnded(w *await) news {
	work := w.work
	w.work, w.over = nil, nil
	switch {
	case a.heeds(evAborted) && a.ctx.Err() != nil:
		return news{event: evAborted}
	case work != nil && work.err != nil:
		return news{event: evFailed, err: work.err}
	}
	return news{event: evFinished}
}

// receive handles a message of the candidate. If ok is false, there is no message, and receive handles the end of the control
// socket. If the message or the end is an event for the stage, receive returns the event and true. want is the kind of message
// that the stage waits for.
func (a *attempt) receive(f wire.Frame, ok bool, want wire.Kind) (news, bool) {
	if !ok {
		a.received.frames = nil
		e := evClosed
		if a.child.link.Broken != nil {
			e = evBroken
		}
		return news{event: e}, a.heeds(e) && !(e == evClosed && a.peer.hangsUp())
	}
	if a.stage >= atDismissing {
		a.dismissal.takeState(f)
		return news{}, false
	}
	if err := a.handle(f); err != nil {
		return news{event: evObjected, err: err}, true
	}
	return news{event: evAnswered, frame: f}, want != 0 && f.Kind == want
}

// handle handles a message of the candidate. If the attempt has to be taken back because of the message, handle returns the
// reason: the message is out of order, for example, or reports a failure.
func (a *attempt) handle(f wire.Frame) error {
	defer f.Close()
	if err := a.received.inOrder(f.Kind, phases[a.stage], a.peer, a.child.link.Sent); err != nil {
		return err
	}
	a.heartbeat.refresh()
	switch f.Kind {
	case wire.KindFailed:
		e := new(remoteError)
		if err := f.Decode(&e.FailedBody); err != nil {
			return err
		}
		return e
	case wire.KindListeners:
		return a.child.more(f)
	case wire.KindTakes:
		return a.shares.takes.Hear(f)
	case wire.KindDialed:
		a.cand.dialed(f)
	case wire.KindMessage:
		if a.stage == atBaking && a.received.call == nil {
			a.received.call = newSubscription(func() error { return a.cand.heardMessage(f) })
		}
	case wire.KindConn:
		a.shares.returned(f)
	}
	return nil
}

// helloDelay is how long readyByte waits for the message hello. The Ready byte comes through the pipe of tableflip, and hello
// through the control socket. So this process may see the byte first, although the candidate has sent hello first.
const helloDelay = 100 * time.Millisecond

// readyByte handles a Ready byte that comes before the commit message. If hello has come, the byte is out of order. If no hello
// comes until the control socket is closed or helloDelay is over, the candidate is a program with tableflip only.
func (a *attempt) readyByte() news {
	late := time.NewTimer(helloDelay)
	defer late.Stop()
	for !a.received.kinds[wire.KindHello] {
		select {
		case f, ok := <-a.received.frames:
			if n, found := a.receive(f, ok, 0); found {
				return n
			}
			if ok {
				continue
			}
		case <-late.C:
		}
		return news{event: evReady}
	}
	return news{event: evObjected, err: &wordError{readyWord, a.phase()}}
}

// exited handles the exit of the child. It first reads the messages that the child sent before its exit. Usually exited
// returns the event exited, with the exit status. If the attempt has to be taken back because of a message, exited returns the
// event objected instead. If the stage waits for hello and hello has come, exited returns the event answered. Then the attempt
// goes on, and the event exited comes in a later stage, so the failure does not count as a failed start.
func (a *attempt) exited(want wire.Kind) news {
	end := time.After(commitStall)
	for {
		select {
		case f, ok := <-a.child.link.Frames:
			if !ok {
				return a.exitNews()
			}
			n, found := a.receive(f, ok, want)
			if found && (n.event == evObjected || want == wire.KindHello) {
				return n
			}
		case <-end:
			return a.exitNews()
		}
	}
}

func (a *attempt) exitNews() news {
	return news{event: evExited, err: &exitError{a.child.Status, a.stage == atStarting}}
}

// why returns the reason for taking the attempt back after an event.
func (a *attempt) why(n news) error {
	switch n.event {
	case evFailed:
		return a.blame(n.err)
	case evObjected, evExited, evSilent:
		return n.err
	case evClosed, evBroken:
		return a.linkLost()
	case evReady:
		return &wordError{readyWord, a.phase()}
	case evAborted:
		return a.aborted()
	case evLate:
		return a.tooLate()
	}
	return &stageError{a.stage, n.event}
}

// aborted returns the reason for taking back an aborted attempt.
func (a *attempt) aborted() error { return fmt.Errorf("%w: %w", ErrAborted, context.Cause(a.ctx)) }

// tooLate returns the reason for taking the attempt back when the time of the stage is over.
func (a *attempt) tooLate() error {
	limit := a.opts.Timeout
	switch a.stage {
	case atSaving:
		return fmt.Errorf("the file system of the pid file does not answer within %v: look at %s", limit, a.opts.PIDFile)
	case atChoosing:
		return fmt.Errorf("executable: to read it and Options.Verify took longer than %v", limit)
	case atStarting:
		return fmt.Errorf("it did not get to upgrade.New within %v", limit)
	case atGreeted, atMarshalling:
		return fmt.Errorf("a kept value's MarshalBinary did not return within %v", limit)
	case atChecking:
		return fmt.Errorf("it was not prepared within %v: it hangs before upgrade.Run, or in it", limit)
	case atOverdue:
		return fmt.Errorf("it did not confirm the commit within %v", limit)
	}
	return &stageError{a.stage, evLate}
}

// blame returns the reason for taking the attempt back when the work of the stage has failed with err. Usually the reason is
// err. But when a candidate dies, a judge may see the error of its connection before the attempt sees the death. So after an
// error of a judge, blame waits up to tickEvery for the exit of the candidate, or for the message failed. If either comes,
// blame returns the reason of the exit or message together with err.
func (a *attempt) blame(err error) error {
	if a.stage != atSmoking && a.stage != atBaking {
		return err
	}
	why := a.reason(tickEvery)
	if errors.As(why, new(*exitError)) || errors.As(why, new(*remoteError)) {
		return fmt.Errorf("%w (Options.%s: %w)", why, a.work.name, err)
	}
	return err
}

// reason waits for an event because of which the attempt has to be taken back, and returns the reason. If no such event comes
// within the limit, or the event hurried comes first, reason returns nil.
func (a *attempt) reason(limit time.Duration) error {
	n := a.next(&await{due: time.Now().Add(limit)})
	if n.event == evLate || n.event == evHurried {
		return nil
	}
	return a.why(n)
}

// send sends the candidate a message. If the candidate has closed the socket, send waits up to commitStall for the reason: a
// failure that the candidate has reported, for example, or its exit. If a reason comes, send returns the reason and not the
// error of the socket.
func (a *attempt) send(k wire.Kind, body any, files ...*os.File) error {
	err := a.child.link.Send(k, body, files...)
	if err == nil {
		return nil
	}
	if wire.Gone(err) {
		if why := a.reason(commitStall); why != nil {
			return why
		}
	}
	return fmt.Errorf("control socket: %w", err)
}

// linkLost returns the reason for taking the attempt back after the end of the control socket. When a child dies, its socket
// ends a moment before this process notices the exit. So linkLost waits up to commitStall for the exit. If the child is alive
// after this time, the reason is that the child has closed the socket, or has sent bytes that are not a message.
func (a *attempt) linkLost() error {
	select {
	case <-a.child.Exited:
		return a.exited(0).err
	case <-time.After(commitStall):
		if err := a.child.link.Broken; err != nil {
			return err
		}
		return errors.New("it closed the control socket")
	}
}

// tickEvery is how often an attempt calls tick.
const tickEvery = 50 * time.Millisecond

// tick does nothing before the first SetWeight. After it, tick looks which passed connections the candidate has taken, refused
// or closed (see Sweep of handoff.Dispatcher), and returns an error if the candidate has sent nothing for Options.Silence.
func (a *attempt) tick() error {
	if a.shares.dispatcher() == nil {
		return nil
	}
	a.shares.dispatcher().Sweep()
	// Silence does not count in a stage that ignores the event silent: after the commit message, for example, another limit
	// applies. Silence also does not count while received.call runs, because this process then reads no messages.
	if !a.heeds(evSilent) || a.received.call != nil {
		a.heartbeat.refresh()
		return nil
	}
	return a.heartbeat.check(a.opts.Silence)
}
