package upgrade

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/cloudflare/tableflip"
	"github.com/midair-go/midair/internal/logqueue"
	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/pidfile"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/state"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Upgrader is one generation of a program that replaces itself at run time. All methods may be called from any goroutine.
type Upgrader struct {
	estate
	unwritten unwritten // of the pid file and the outcome
	elders    *elders
	previous  previous
	opts      Options
	log       *slog.Logger
	tel       *telemetry
	tf        *tableflip.Upgrader  // nil where upgrades are not supported
	passed    *sdnotify.Activation // what the service manager has passed
	traffic   traffic
	unwatch   func() // ends the metric about the supervisor

	generation  int
	parent      *wire.Link        // to the old process, nil if there is none that speaks the control protocol
	plainParent bool              // the old process knows tableflip only
	limit       time.Duration     // how long the old process waits for prepared
	welcome     time.Time         // since when
	paths       []wire.SocketName // of the unix sockets that the old process has
	expects     []wire.SocketName // that the old process has, as files at exec
	forgotten   error             // what of it was not opened
	starter     string            // the name of the program that has started this process; empty: an older generation, or unknown
	elder       *elder            // the old process, when it has handed over
	born        Outcome           // of the upgrade that started this process, as far as the old one has told
	only        bool              // nobody serves: this process has to, whatever its checks say
	inherited   []string          // names of the sockets that a service manager keeps for the old process
	said        bool              // the manager knows that the service ends
	detached    bool              // the end of the terminal is nothing to the service
	systemd     bool              // has started the service, and is told of each main process by the one before

	control *control
	checks  checks
	shown   shown
}

// New begins a generation and has to come first in main: New finds out whether this process replaces another process, and
// receives listeners and state from the old process. New may wait for the old process, at most Options.Timeout. There can be
// one Upgrader in a process. Call Close at the end.
//
// From New on, the process lives on if the reader of its standard output or error has gone. Without New, SIGPIPE would end
// the process at the next line of log. New subscribes to that signal and ignores it (os/signal.Notify); a write to the pipe
// fails. Child processes do not inherit this.
func New(opts Options) (*Upgrader, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	survivePipe()
	u, err := begin(o)
	if err != nil {
		logqueue.Flush(o.Logger)
	}
	return u, err
}

func begin(o Options) (*Upgrader, error) {
	if err := sdnotify.CheckFormer(); err != nil {
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	tel, err := newTelemetry(o.MeterProvider, o.TracerProvider)
	if err != nil {
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	tf, err := tableflip.New(tableflip.Options{})
	if err != nil && !errors.Is(err, tableflip.ErrNotSupported) {
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	u := newUpgrader(o, tel, tf)
	if err := process.OOMProblem(); err != nil {
		u.log.Debug("upgrade: if memory runs out while this candidate is tried, the service may be killed in its place", "err", err)
	}
	if err := u.meetManager(); err != nil {
		u.leaveManager()
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	if tf != nil && tf.HasParent() {
		if err := u.join(); err != nil {
			u.pid.Discard(os.Getpid())
			u.leaveManager()
			return nil, fmt.Errorf("upgrade: %w", err)
		}
		u.shown.status.Generation = u.generation
	} else {
		u.starter, u.detached, u.systemd = process.ParentName(), sys.Nohup(), u.manager.IsSystemd()
	}
	return u, nil
}

func newUpgrader(o Options, tel *telemetry, tf *tableflip.Upgrader) *Upgrader {
	u := &Upgrader{
		opts: o, log: o.Logger, tel: tel, tf: tf, generation: 1, limit: o.Timeout,
		estate:  estate{keeper: state.NewKeeper(o.StateLimit), pid: pidfile.New(o.PIDFile)},
		traffic: traffic{hurry: make(chan struct{})},
		unwatch: func() {},
		control: newControl(),
		shown:   shown{status: Status{State: "starting", Generation: 1, Version: o.Version, PID: os.Getpid(), Started: time.Now()}},
	}
	u.keeper.MakeIn(u.room.with)
	u.elders = newElders(u.takeState)
	if tf == nil { // an interface that holds a nil would not be nil
		u.listeners = listener.New(nil, u.Move)
	} else {
		u.listeners = listener.New(tf.Fds, u.Move)
	}
	u.room.hold = u.listeners.Hold
	u.traffic.listeners = u.listeners
	u.listeners.LogTo(o.Logger)
	u.listeners.Configure(o.ListenConfig)
	return u
}

// join greets the old process and receives sockets and state.
func (u *Upgrader) join() error {
	process.Scrub()
	u.born = Outcome{Kind: modeUpgrade.String(), Started: wallClock(), Begun: sys.Uptime()}
	u.generation = 2 // a process that knows tableflip only does not count: it was the first at least
	u.listeners.ClaimInherited()
	file, err := u.tf.Fds.File(process.ControlName)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if file == nil && u.manager.Supervised() {
		return errors.New("the old process knows tableflip only, and cannot tell the supervisor of this one: stop the service and start it")
	}
	if file == nil {
		u.plainParent = true
		return nil
	}
	sock, err := wire.NewSocket(file)
	if err != nil {
		return err
	}
	atStep("new.start")
	u.parent = wire.NewLink(sock)
	u.parent.AllowMissing(true)
	t, err := takeSockets(u.parent, u.opts.Timeout, u.log)
	if t.got > 0 {
		u.listeners.Receive(t.sockets)
		u.inherited = t.kept
	}
	if err == nil {
		atStep("new.sockets")
		err = u.parent.Send(wire.KindHello, wire.HelloBody{
			Min: wire.ProtocolMin, Max: wire.ProtocolMax, PID: os.Getpid(), Version: wire.Clip(u.opts.Version), Speaks: true, Listeners: t.got,
		})
	}
	if err == nil || wire.Gone(err) { // one that is dead may have left its welcome
		atStep("new.hello")
		_ = u.pid.Stage() // while the old process answers; the checks say what is wrong with it
		err = u.welcomed(t.early)
	}
	if err != nil {
		_ = u.parent.Send(wire.KindFailed, wire.FailedBody{Phase: string(PhaseStart), Reason: wire.Clip(err.Error())}) // one that does not listen gets the exit status
		u.parent.Close()
		return err
	}
	return nil
}

// welcomed handles the answer to hello, which may have been received already.
func (u *Upgrader) welcomed(early wire.Frame) error {
	if early.Kind != 0 {
		return u.answered(early)
	}
	timeout := time.NewTimer(u.opts.Timeout)
	defer timeout.Stop()
	for {
		select {
		case f, ok := <-u.parent.Frames:
			if !ok && u.parent.Broken != nil {
				return u.parent.Broken
			}
			if !ok && u.manager.Supervised() {
				return errors.New("the old process died before this one had its channel to the supervisor: the supervisor starts the service again")
			}
			if !ok {
				u.orphan()
				return nil
			}
			if f.Kind == wire.KindAbort || f.Kind == wire.KindWelcome {
				return u.answered(f)
			}
			f.Close()
		case <-timeout.C:
			return fmt.Errorf("the old process did not answer within %v", u.opts.Timeout)
		}
	}
}

func (u *Upgrader) answered(f wire.Frame) error {
	if f.Kind == wire.KindAbort {
		return refusal(f)
	}
	return u.take(f)
}

// refusal returns the reason of an abort message that came in place of a welcome.
func refusal(f wire.Frame) error {
	defer f.Close()
	var body wire.AbortBody
	_ = f.Decode(&body)
	return fmt.Errorf("the old process does not want this one: %w: %s", ErrAborted, body.Reason)
}

// Listen returns a listener for tcp, tcp4, tcp6 or unix (a name that begins with @ is an abstract name): the listener that
// the old process had under the same network and address, or a new one. So ":0" keeps its port; several listeners of the
// same address are distinguished by their order. Call Listen before Run; Listen works while Run runs, but only sockets that
// were opened before Run are required for being prepared and expected from the next version.
//
// Accept waits until this generation is the one to serve. Accept returns connections of package net, *net.TCPConn and
// *net.UnixConn, also for connections from another process. A connection that a candidate has accepted itself is lost if the
// candidate dies; package drain accepts by another method, AcceptMoved, and the old process then serves connections again
// that the candidate has not read from. Close the listener as usual. Open listeners are handed on in an upgrade; the commit
// closes those that the new process does not open again (see Options.MayClose).
//
// The address may be spelled in another way than in the old version ("localhost:80", "127.0.0.1:80"): the socket is the
// same. On Linux a tcp wildcard may replace an address with its port ("0.0.0.0:80" for "127.0.0.1:80"), unless a service
// manager holds that socket. An address may also replace a wildcard; name the wildcard in MayClose then. Such a new socket,
// and a further socket that shares an address by SO_REUSEPORT, listens from the commit on and also returns the connections
// of the old socket's queue; before the commit, the judge of a progressive upgrade sees no clients of an address that
// replaces a wildcard. Both processes have to belong to the same user, and a file with AllowWrapper cannot replace sockets
// in this way. When a new process serves, the queue of a socket gets the length that the kernel allows by then. The path of
// a unix socket without a listening process is replaced, and on Linux a path that the program has removed, and on which the
// old process serves, is restored.
//
// A socket from a service manager (LISTEN_FDS) is used instead of a new socket if its tcp or udp address is the same. The
// network "systemd" selects such a socket by its name, FileDescriptorName= in the unit: Listen("systemd", "web").
func (u *Upgrader) Listen(network, address string) (net.Listener, error) {
	ln, err := u.listeners.Listen(network, address, false)
	u.listeners.NoteFailure(err)
	return ln, err
}

// ListenPinned is Listen for a listener that stays with the main generation until the commit: a listener for operators, who
// want to reach the process that can abort the upgrade, and not the candidate.
func (u *Upgrader) ListenPinned(network, address string) (net.Listener, error) {
	ln, err := u.listeners.Listen(network, address, true)
	u.listeners.NoteFailure(err)
	return ln, err
}

// ListenPacket is Listen for udp, udp4, udp6 and unixgram. The result has the methods of *net.UDPConn or *net.UnixConn, so
// that packet info, ECN and batches work, as QUIC servers need them (golang.org/x/net's ReadBatch and WriteBatch; its
// ReadFrom insists on a *net.UDPConn). Each method that reads waits in a candidate until the commit, and in the old process
// from the commit on, also Read of SyscallConn. Reads in Control and by the descriptor of File are not held back.
//
// The program has to end a waiting read when serve's context ends: with SetReadDeadline, and with Close after the last
// answer; writing works until Close. After Options.StuckAfter reading ends anyway, as Accept does, with net.ErrClosed.
// CloseRead of a unix socket ends reading in this process, and CloseWrite returns an error, because another process may
// serve on the socket.
func (u *Upgrader) ListenPacket(network, address string) (net.PacketConn, error) {
	pc, err := u.listeners.ListenPacket(network, address)
	u.listeners.NoteFailure(err)
	return pc, err
}

// Check adds a condition for taking over: all conditions must hold before a candidate is prepared. They are called one after
// the other in the order of the calls of Check. The context ends with Options.Timeout, and fn must return then. A process
// without an older process to fall back to runs its checks as well, and logs an error, but serves anyway. Call Check before
// Run.
func (u *Upgrader) Check(name string, fn func(context.Context) error) {
	u.checks.add(name, inTime(fn))
}

// Keep passes v from the old process to the new one under a name, and back on an abort. If the old process has sent data for
// the name, Keep restores v before Keep returns; a value that returns an error fails the check phase. Call Keep before Run.
//
// The methods of v are called while the program serves, so they must be safe for concurrent use. UnmarshalBinary may be
// called twice in a new process: with a snapshot at the start and with fresh data at the commit. On an abort UnmarshalBinary
// is called in the old process, which went on changing its own value meanwhile; after a crash during an upgrade it is called
// in the process that serves, when an uncommitted candidate ends. A value that both sides may change should merge there.
// Data may come from another version of the program: return an error for data that the method does not understand. A slow
// method delays the upgrade, and a method that takes longer than Options.Timeout fails the upgrade. The methods must not
// call the Upgrader.
func (u *Upgrader) Keep(name string, v interface {
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}) {
	kept := make(chan struct{})
	go func() { // ends when UnmarshalBinary does
		defer close(kept)
		u.keeper.Keep(name, v)
	}()
	limit := u.limit - u.limit/10 // the reason is to arrive before the old process gives up
	if !u.welcome.IsZero() {
		limit -= time.Since(u.welcome)
	}
	late := time.NewTimer(max(limit, commitStall))
	defer late.Stop()
	select {
	case <-kept:
	case <-late.C:
		u.keeper.Refuse(fmt.Errorf("keep %q: UnmarshalBinary has not returned within %v", name, u.limit-u.limit/10))
	}
}

// Close ends what Run has not ended, as a plain stop would, and waits for the end of Run. Do not call Close from inside Run:
// not from serve, a check or a kept value. Close may be called twice, and before Run; a candidate that closes before being
// prepared notifies the old process. The error is always nil: Close implements io.Closer.
func (u *Upgrader) Close() error {
	if u.control.close() == runAwaited {
		u.neverRun()
	}
	<-u.control.ended
	logqueue.Flush(u.log)
	return nil
}

// neverRun ends a generation whose program never called Run.
func (u *Upgrader) neverRun() {
	if u.parent != nil {
		reason := "the program gave up before upgrade.Run"
		if err := u.listeners.FirstFailure(); err != nil {
			reason += ": " + err.Error()
		}
		_ = u.parent.Send(wire.KindFailed, wire.FailedBody{Phase: string(PhaseStart), Reason: wire.Clip(reason)})
		u.parent.Close()
	}
	u.listeners.UnlinkOnClose(u.generation == 1)
	u.listeners.ReleaseAll()
	u.pid.Discard(os.Getpid())
	u.previous.release()
	u.stopTableflip()
	u.leaveManager()
	close(u.control.ended)
}
