package upgrade

import (
	"context"
	"encoding"
	"errors"
	"fmt"
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
	parts
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
	if err := meetManager(&u.parts); err != nil {
		u.announcer.leave()
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	if tf == nil || !tf.HasParent() {
		u.origin.starter, u.origin.detached, u.origin.systemd = process.ParentName(), sys.Nohup(), u.estate.manager.IsSystemd()
		return u, nil
	}
	j := joining{&u.origin, &u.estate}
	if err := j.join(tf.Fds); err != nil {
		u.estate.pid.Discard(os.Getpid())
		u.announcer.leave()
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	u.announcer.stored = u.origin.inherited
	u.shown.status.Generation = u.origin.generation
	if u.origin.old == oldDead {
		u.shown.setUncommitted()
		u.log.Error("upgrade: this process is the service although nobody has committed it", "why", "the old process has died before its welcome", "version", o.Version)
	}
	return u, nil
}

func newUpgrader(o Options, tel *telemetry, tf *tableflip.Upgrader) *Upgrader {
	u := &Upgrader{parts{
		opts: o, log: o.Logger, tel: tel, tf: tf,
		origin:  origin{generation: 1, limit: o.Timeout},
		estate:  estate{keeper: state.NewKeeper(o.StateLimit), pid: pidfile.New(o.PIDFile), log: o.Logger},
		traffic: traffic{hurry: make(chan struct{})},
		control: newControl(),
		shown:   shown{status: Status{State: "starting", Generation: 1, Version: o.Version, PID: os.Getpid(), Started: time.Now()}},
	}}
	e := &u.estate
	e.opts = &u.opts
	u.announcer = announcer{estate: e, origin: &u.origin, version: o.Version, unwatch: func() {}}
	u.history.elders = newElders(e.takeState)
	if tf == nil { // an interface that holds a nil would not be nil
		e.listeners = listener.New(nil, u.Move)
	} else {
		e.listeners = listener.New(tf.Fds, u.Move)
	}
	u.traffic.listeners = e.listeners
	e.keeper.MakeIn(e.room.with)
	e.room.hold = e.listeners.Hold
	e.listeners.LogTo(o.Logger)
	e.listeners.Configure(o.ListenConfig)
	return u
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
	ln, err := u.estate.listeners.Listen(network, address, false)
	u.estate.listeners.NoteFailure(err)
	return ln, err
}

// ListenPinned is Listen for a listener that stays with the main generation until the commit: a listener for operators, who
// want to reach the process that can abort the upgrade, and not the candidate.
func (u *Upgrader) ListenPinned(network, address string) (net.Listener, error) {
	ln, err := u.estate.listeners.Listen(network, address, true)
	u.estate.listeners.NoteFailure(err)
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
	pc, err := u.estate.listeners.ListenPacket(network, address)
	u.estate.listeners.NoteFailure(err)
	return pc, err
}

// Check adds a condition for taking over: all conditions must hold before a candidate is prepared. They are called one after
// the other in the order of the calls of Check. The context ends with Options.Timeout, and fn must return then. A process
// without an older process to fall back to runs its checks as well, and logs an error, but serves anyway. Call Check before
// Run.
func (u *Upgrader) Check(name string, fn func(context.Context) error) {
	u.checks.add(name, inTime(fn))
}

// Exclusive makes Run hold a resource while this process is the main generation. The first process acquires the resource
// before accepting. In an upgrade the old process stops accepting and releases the resource right before the commit, and
// the new process acquires it before accepting: new connections wait in the kernel's queue meanwhile. If the commit fails,
// the old process acquires the resource again. If Acquire fails until Options.Timeout, the old process serves on without,
// and logs an error. Requests that the old process has begun, or that come on its open connections, go on after the
// Release: either Release waits for such requests, or they work without the resource. A process without another one to
// fall back to ends Run with the error of Acquire. At its end Run releases the held resources.
//
// Several resources are acquired in the order of the calls and released in the reverse. To be called before Run.
func (u *Upgrader) Exclusive(name string, r Resource) { u.estate.resources.add(name, r) }

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
		u.estate.keeper.Keep(name, v)
	}()
	limit := u.origin.limit - u.origin.limit/10 // the reason is to arrive before the old process gives up
	if !u.origin.welcome.IsZero() {
		limit -= time.Since(u.origin.welcome)
	}
	late := time.NewTimer(max(limit, commitStall))
	defer late.Stop()
	select {
	case <-kept:
	case <-late.C:
		u.estate.keeper.Refuse(fmt.Errorf("keep %q: UnmarshalBinary has not returned within %v", name, u.origin.limit-u.origin.limit/10))
	}
}

// Run serves until ctx ends, a signal asks for the end, serve returns, or another generation has taken over, and returns the
// error of serve. Run calls serve at once in a new goroutine; serve has to accept on all listeners, and to finish
// when its context ends. The cause of the context has a method Handover() bool, which is true for an upgrade and false for a
// plain stop. A candidate that is taken back gets an *Error that is ErrAborted; main should then end with a non-zero
// status. A plain stop of a service whose supervisor has died ends with ErrUnsupervised. Run may be called once. Run returns after
// its last goroutine, with two exceptions: a goroutine that writes a line to a stuck log (see Options.Logger), and a serve that goes
// on after the end of its context and is not known to drain. Then Run returns ErrServeStuck (Options.StuckAfter), and main should
// end: serve ends with the process.
func (u *Upgrader) Run(ctx context.Context, serve func(context.Context) error) error {
	if err := u.control.begin(); err != nil {
		return err
	}
	return newGeneration(&u.parts).run(ctx, serve)
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
	if u.origin.link != nil {
		reason := "the program gave up before upgrade.Run"
		if err := u.estate.listeners.FirstFailure(); err != nil {
			reason += ": " + err.Error()
		}
		_ = u.origin.link.Send(wire.KindFailed, wire.FailedBody{Phase: string(PhaseStart), Reason: wire.Clip(reason)})
		u.origin.link.Close()
	}
	u.estate.listeners.UnlinkOnClose(u.origin.generation == 1)
	u.estate.listeners.ReleaseAll()
	u.estate.pid.Discard(os.Getpid())
	u.history.previous.release()
	stopTableflip(u.tf)
	u.announcer.leave()
	close(u.control.ended)
}
