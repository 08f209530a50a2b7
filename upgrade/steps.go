package upgrade

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/midair-go/midair/internal/guard"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// begin starts the work of the stages up to the commit. The actions of the table are called by act (attempt.go).

// begin starts the work of the stage, and returns the conditions under which the stage ends.
func (a *attempt) begin() await {
	switch a.stage {
	case atNaming:
		return await{over: a.unsettled}
	case atSaving:
		return a.save()
	case atChoosing:
		return a.choose()
	case atStarting:
		return a.start()
	case atGreeted:
		return a.awaitValues(!a.child.link.Sent(wire.KindWelcome))
	case atChecking:
		return a.check()
	case atSmoking:
		return a.ask("Smoke", a.opts.Smoke)
	case atBaking:
		return a.ask("Bake", a.opts.Bake)
	case atSoaking:
		return a.soak()
	case atAnnouncing:
		return a.announce()
	case atReleasing:
		return a.release()
	case atMarshalling:
		a.values = a.estate.marshal(a.values.sent(a.child.link.Sent(wire.KindWelcome)))
		return a.awaitValues(true)
	case atCommitting:
		return a.commit()
	case atUnconfirmed:
		return a.awaitServing(a.opts.Timeout)
	case atOverdue: // if this process was suspended, it has perhaps not yet read an answer that came in time
		return a.awaitServing(commitStall)
	case atDismissing:
		return a.dismissal.dismiss()
	case atKilling:
		return a.dismissal.kill()
	case atReacquiring:
		return a.dismissal.reacquire()
	}
	return await{}
}

// leave ends the work of the present stage. The argument to is the next stage.
func (a *attempt) leave(to stage) {
	switch a.stage {
	case atChoosing:
		if to != atStarting {
			a.program.drop()
		}
	case atStarting, atGreeted, atMarshalling:
		if to != atGreeted && to != atCommitting {
			a.values.drop()
		}
	case atSmoking, atBaking:
		if !a.work.stop(commitStall) {
			a.log.Error("upgrade: a judge goes on although its context has ended", "judge", a.work.name)
		}
		a.cand.hangUp(a.stage == atBaking)
		a.received.call = nil // the result of a subscriber's call is not needed after the end of the judge
	case atReacquiring:
		if a.work != nil {
			a.work.cancel()
		}
	case atReleasing:
		if a.work != nil { // the work ends soon after its context, even if Release goes on
			a.work.cancel()
			<-a.work.done
		}
	}
	a.work = nil
}

// save waits until this process no longer writes its pid file and its outcome: the candidate writes them after a commit.
func (a *attempt) save() await {
	if a.writes == nil {
		return await{}
	}
	return await{over: a.writes, due: time.Now().Add(a.opts.Timeout)}
}

// choose begins to look up and to check the program to start. If Verify or the file system hangs, the stage ends at a.due.
func (a *attempt) choose() await {
	a.estate.room.with(a.estate.reserveOutcome)
	atStep("old.start")
	a.due = time.Now().Add(a.opts.Timeout)
	a.program = choose(a.estate, a.history, a.opts, a.mode)
	return await{work: a.program.work, due: a.due}
}

// start starts the new process, which has to send hello. A process that sends the Ready byte and no hello uses tableflip only.
func (a *attempt) start() await {
	defer a.program.drop()
	c, err := (*child)(nil), error(nil)
	a.estate.room.withSockets(a.estate.listeners.Len(), func() {
		a.crash, _ = sys.MemFile("midair-crash") // if MemFile fails, there is no report of a crash
		c, err = startChild(a.estate, a.origin, a.opts, a.program.program)
	})
	if err != nil {
		return await{err: err}
	}
	a.values = a.estate.marshal(nil) // MarshalBinary runs while the new process begins
	a.child, a.received.frames, a.received.ready = c, c.link.Frames, c.Ready
	a.cand.pid, a.cand.generation, a.cand.link, a.cand.division = c.PID, a.nextGeneration(), c.link, &a.shares
	a.report()
	introduce(a.estate, a.history, c, a.origin.generation, a.nextGeneration())
	a.log.Info("upgrade: started a new process", "candidate", c.PID, "for", a.mode)
	atStep("old.started")
	if err := c.unknown(); err != nil {
		return await{err: err}
	}
	w := await{want: wire.KindHello, due: a.due}
	if len(c.passing.rest) == 0 { // unsent sockets must be sent before the welcome
		w.over = a.values.done
	}
	return w
}

// welcomeEarly sends the welcome before hello has come, so that the candidate does not have to wait.
func (a *attempt) welcomeEarly() error {
	if a.values.err != nil {
		return nil // the attempt fails with this error when hello has come
	}
	if err := a.sendWelcome(a.child.link.Send); err != nil && !wire.Gone(err) { // if Gone, the exit is the reason
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// greet reads and checks hello.
func (a *attempt) greet(f wire.Frame) error {
	if err := f.Decode(&a.hello); err != nil {
		return err
	}
	if err := wire.Overlap(a.hello.Min, a.hello.Max); err != nil {
		return err
	}
	if pid := a.hello.PID; pid != a.child.PID {
		return fmt.Errorf("it is pid %d, started by pid %d: a script has to end with exec", pid, a.child.PID)
	}
	if err := a.child.passing.counted(a.hello.Listeners); err != nil {
		return err
	}
	a.child.tookAll()
	a.cand.version = wire.Clip(a.hello.Version)
	atStep("old.hello")
	return nil
}

// welcome sends the welcome, unless welcomeEarly has sent it, and sends the history.
func (a *attempt) welcome() error {
	if !a.child.link.Sent(wire.KindWelcome) {
		if err := a.sendWelcome(a.send); err != nil {
			return err
		}
	}
	a.child.channel.Close() // the candidate has a copy; without a supervisor, channel is nil and Close does nothing
	a.sendHistory()
	return nil
}

// sendWelcome sends the new process everything that it needs to begin. The function send sends the message.
func (a *attempt) sendWelcome(send func(wire.Kind, any, ...*os.File) error) error {
	body := wire.WelcomeBody{
		Protocol: wire.ProtocolMin, Generation: a.cand.generation, Millis: time.Until(a.due).Milliseconds(),
		Kind: a.mode.String(), Started: a.started, Begun: a.begun,
		Surroundings: wire.Surroundings{Detached: a.origin.detached}, Names: a.origin.systemd, Only: a.mode == modeRevive, From: wire.Clip(a.opts.Version), PID: os.Getpid(),
	}
	if !a.child.passing.waits {
		a.estate.nameFiles(&body)
	}
	var files []*os.File
	if a.values.state != nil {
		body.State, files = true, append(files, a.values.state)
	}
	if a.crash != nil {
		body.Crash, files = true, append(files, a.crash)
	}
	if a.child.channel != nil {
		body.Channel, files = true, append(files, a.child.channel)
	}
	if err := send(wire.KindWelcome, body, files...); err != nil {
		return err
	}
	atStep("old.welcomed")
	return nil
}

// sendHistory sends the candidate the previous build and the control sockets of draining generations. Rollback starts the
// previous build, and so does revive. Errors are logged and do not fail the upgrade.
func (a *attempt) sendHistory() {
	// If the candidate is gone, its exit ends the attempt.
	if err := a.history.send(a.cand.link, a.mode, a.cand.pid, a.opts.Version); err != nil && !wire.Gone(err) {
		a.log.Warn("upgrade: the new process will not know all about the older ones", "err", err)
	}
	atStep("old.bequeathed")
}

// admit decides about a candidate that has sent the Ready byte and no hello. An error means that the candidate is refused.
func (a *attempt) admit() error {
	a.peer, a.received.ready = tableflipPeer{}, nil
	if a.child.passing.waits {
		return fmt.Errorf("it does not speak the control protocol: its file says that it takes its listening sockets there, and it is ready without the %d that wait for it: does it call upgrade.New?", a.child.passing.total)
	}
	if a.mode == modeRehearsal { // passSmoke refuses the candidate later
		return nil
	}
	if err := a.mode.refusePlain(a.opts); err != nil {
		return fmt.Errorf("it does not speak the control protocol: it knows tableflip only, and %w", err)
	}
	if names := a.opts.judges(); len(names) > 0 {
		a.log.Warn("upgrade: the candidate knows tableflip only: it is not judged", "candidate", a.child.PID, "judges", names)
	}
	return nil
}

// check waits until the candidate is prepared.
func (a *attempt) check() await {
	want := a.peer.prepare()
	if want == 0 {
		return await{}
	}
	return await{want: want, due: time.Now().Add(max(time.Until(a.due), time.Millisecond))} // 1 ms for a waiting message
}

// prepare reads the message prepared.
func (a *attempt) prepare(f wire.Frame) error {
	err := f.Decode(&a.prepared)
	atStep("old.prepared")
	return err
}

// ask calls a judge: a function of the program that decides whether the candidate is good. If the candidate dies, or an
// operator decides first (Abort, Commit), the judge's context ends. Then the attempt waits at most commitStall for the judge.
func (a *attempt) ask(name string, fn judge) await {
	if fn == nil || !a.mode.judged() {
		return await{}
	}
	if fn = a.peer.judge(fn); fn == nil {
		return await{}
	}
	ctx, cancel := context.WithCancel(a.ctx)
	a.work = newWork(name, cancel, fmt.Errorf("the function in Options.%s has ended its goroutine", name), func() error {
		return guard.Call(func() error { return fn(ctx, &a.cand) })
	})
	return await{work: a.work}
}

// passSmoke ends a rehearsal after its smoke test. In any other mode passSmoke does nothing.
func (a *attempt) passSmoke() error {
	if a.mode == modeRehearsal {
		return a.peer.rehearsed()
	}
	return nil
}

// soak waits for Options.Soak: the candidate has to stay alive. Unless exclusive returns true, the candidate accepts as well.
func (a *attempt) soak() await {
	if !a.mode.judged() || a.opts.Soak <= 0 {
		return await{}
	}
	if !a.exclusive() {
		if err := a.peer.open(a); err != nil {
			return await{err: err}
		}
	}
	atStep("old.opened")
	return await{due: time.Now().Add(a.opts.Soak)}
}

// announce announces to the supervisor that the candidate may become the service.
func (a *attempt) announce() await {
	if !a.estate.manager.Supervised() {
		return await{}
	}
	return await{work: newWork("announce", nil, nil, a.estate.manager.Committing)} // Committing takes five seconds at most
}

// release begins to give up the exclusive resources. If exclusive returns true, this process first stops accepting.
func (a *attempt) release() await {
	if len(a.estate.resources.list()) == 0 {
		return await{}
	}
	if a.exclusive() {
		a.estate.listeners.Pause(true)
	}
	ctx, cancel := context.WithTimeout(a.ctx, a.opts.Timeout)
	a.work = newWork("release", cancel, nil, func() error {
		err := a.estate.resources.release(ctx)
		atStep("old.released")
		return err
	})
	return await{work: a.work}
}

// awaitValues waits for the end of MarshalBinary if needed is true.
func (a *attempt) awaitValues(needed bool) await {
	if !needed {
		return await{}
	}
	return await{work: a.values.work, due: time.Now().Add(a.opts.Timeout)}
}

// seal fails if the Ready byte has come before the commit message.
func (a *attempt) seal() error {
	select {
	case <-a.received.ready:
		return &wordError{readyWord, a.phase()}
	default:
		return nil
	}
}

// commit sends the commit message. The new process sends the Ready byte when it becomes the main generation, and the message
// serving later. Until serving has come, this process keeps its listeners, so that it can go on if the candidate dies.
func (a *attempt) commit() await {
	defer a.values.drop()
	a.mu.Lock()
	body := wire.CommitBody{State: a.values.state != nil, Again: a.again}
	a.mu.Unlock()
	var files []*os.File
	if body.State {
		files = append(files, a.values.state)
	}
	atStep("old.commit")
	a.estate.listeners.Pause(true)
	a.shares.stop()
	confirms, err := a.peer.commit(a, body, files)
	if err != nil || !confirms {
		return await{err: err}
	}
	atStep("old.committed")
	return a.awaitServing(commitStall)
}

// awaitServing waits for the message serving. If the whole service is to end, the candidate gets SIGTERM, but only once.
func (a *attempt) awaitServing(limit time.Duration) await {
	w := await{want: wire.KindServing, due: time.Now().Add(limit)}
	if !a.child.stopped {
		w.stops = a.stopping
	}
	return w
}

// confirm handles the message serving.
func (a *attempt) confirm(f wire.Frame) error {
	var body wire.ServingBody
	if len(f.Body) > 0 { // earlier builds send no body
		if err := f.Decode(&body); err != nil {
			return err
		}
	}
	err := a.name(cmp.Or(body.Since, sys.Uptime()))
	if err == nil {
		a.shares.settle(false)
	}
	atStep("old.handed-over")
	return err
}

// name reports to systemd that the candidate is the main process, because systemd may drop messages of any other process. The
// argument since is the time, by sys.Uptime, when the candidate began to serve. More than nameLimit later, name sends nothing:
// perhaps another process has replaced the candidate. If the candidate dies with an error before systemd has read the report,
// name returns an error, and this process serves on: if it ended as well, systemd would believe that the service has ended.
func (a *attempt) name(since time.Duration) error {
	if !a.origin.systemd {
		return nil
	}
	due := time.Now().Add(since + nameLimit - sys.Uptime())
	atStep("old.confirmed")
	err := a.child.died(due)
	if err == nil && a.estate.manager.Name(a.child.PID, due) == nil { // else the candidate's own message must be enough
		a.estate.manager.Barrier(due)
		err = a.child.died(due.Add((nameWait - nameLimit) / 2)) // until this time no process can have replaced the candidate
	}
	if err == nil {
		_ = a.child.link.Send(wire.KindNamed, nil) // fails if the candidate has ended
	}
	return err
}
