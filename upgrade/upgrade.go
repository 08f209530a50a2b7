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

// New begins a generation. Call New first in main: New finds out whether this process replaces another process, and receives
// listeners and state from the old process. New may wait for the old process, at most Options.Timeout. There can be one
// Upgrader in a process. Call Close at the end.
//
// After New the process lives on if the reader of its standard output or error ends. Without New, SIGPIPE would end the process
// when it writes the next line of its log. New subscribes to SIGPIPE by os/signal.Notify, so a write to the broken pipe returns
// an error instead. Child processes do not inherit this behaviour.
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
	if tf == nil { // listener.New needs a nil interface here, and an interface with a nil pointer in it is not nil
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

// Listen returns a listener for tcp, tcp4, tcp6 or unix (a unix name that begins with @ is abstract): the listener that the old
// process had for the same network and address, or a new listener. So ":0" keeps its port. Several listeners of the same
// address are distinguished by the order of the calls. Call Listen before Run. Listen also works while Run runs, but only
// sockets that were opened before Run count for the candidate's preparation and must be opened by the next version.
//
// Accept waits until this generation has to serve. Accept returns connections of package net, *net.TCPConn and *net.UnixConn,
// also for connections that come from another process. If a candidate dies, the connections that it has accepted itself are
// lost. Package drain avoids this: it accepts by another method, AcceptMoved, and if the candidate dies, the old process serves
// the connections that the candidate has not read from. Close the listener as usual. An upgrade passes open listeners to the
// new process; the commit closes the listeners that the new process does not open again (see Options.MayClose).
//
// The new version may spell an address in another way than the old version ("localhost:80", "127.0.0.1:80"): the socket is the
// same. On Linux a tcp wildcard may replace an address with the same port ("0.0.0.0:80" for "127.0.0.1:80"), unless a service
// manager holds the socket of that address. An address may also replace a wildcard; name the wildcard in MayClose in this case.
// Such a new socket listens from the commit on, and also returns the connections that wait in the queue of the old socket. So
// does a further socket that shares an address by SO_REUSEPORT. Until the commit, the judge of a progressive upgrade sees no
// clients of an address that replaces a wildcard. Both processes have to belong to the same user, and a file with AllowWrapper
// cannot replace sockets in this way. When a new process begins to serve, the queue of a socket gets the length that the kernel
// allows at that time. Listen replaces the path of a unix socket on which no process listens. On Linux, Listen restores a path
// that the program has removed while the old process serves on that socket.
//
// A socket from a service manager (LISTEN_FDS) is used instead of a new socket if its tcp or udp address is the same. The
// network "systemd" selects such a socket by its name, FileDescriptorName= in the unit: Listen("systemd", "web").
func (u *Upgrader) Listen(network, address string) (net.Listener, error) {
	ln, err := u.estate.listeners.Listen(network, address, false)
	u.estate.listeners.NoteFailure(err)
	return ln, err
}

// ListenPinned does the same as Listen, for a listener on which only the main generation accepts until the commit: operators
// use this listener to reach the process that can abort the upgrade, and not the candidate.
func (u *Upgrader) ListenPinned(network, address string) (net.Listener, error) {
	ln, err := u.estate.listeners.Listen(network, address, true)
	u.estate.listeners.NoteFailure(err)
	return ln, err
}

// ListenPacket does the same as Listen, for udp, udp4, udp6 and unixgram. The result has the methods of *net.UDPConn or
// *net.UnixConn, so packet info, ECN and batches work, which QUIC servers need (ReadBatch and WriteBatch of golang.org/x/net;
// but ReadFrom of golang.org/x/net works only with a *net.UDPConn itself). Each method that reads waits in a candidate until
// the commit, and waits in the old process from the commit on. So does Read of SyscallConn. Reads in Control of SyscallConn,
// and reads by the descriptor of File, do not wait.
//
// When serve's context ends, the program has to end a waiting read by SetReadDeadline, and has to call Close after the last
// answer; writing works until Close. After Options.StuckAfter a waiting read returns net.ErrClosed, as Accept does. CloseRead
// of a unix socket ends reading in this process only. CloseWrite returns an error, because another process may serve on the
// socket.
func (u *Upgrader) ListenPacket(network, address string) (net.PacketConn, error) {
	pc, err := u.estate.listeners.ListenPacket(network, address)
	u.estate.listeners.NoteFailure(err)
	return pc, err
}

// Check adds a condition for taking over: a candidate is prepared only after every fn has returned nil. Run calls these
// functions one after the other, in the order of the calls of Check. The context ends after Options.Timeout, and fn must return
// when the context ends. A process without an old process runs its checks as well; if a check fails, that process logs the
// error and serves nevertheless. Call Check before Run.
func (u *Upgrader) Check(name string, fn func(context.Context) error) {
	u.checks.add(name, inTime(fn))
}

// Exclusive makes Run hold a resource while this process is the main generation. The first process acquires the resource before
// it accepts. In an upgrade the old process stops accepting and releases the resource right before the commit, and the new
// process acquires the resource before it accepts; until then new connections wait in the kernel's queue. If the commit fails,
// the old process acquires the resource again. If Acquire fails until Options.Timeout has passed, the old process logs an error
// and serves without the resource. The old process goes on with requests that have begun, and with requests on its open
// connections, after Release has returned: either Release has to wait for such requests, or such requests must work without the
// resource. If Acquire fails in a process without an old process, Run ends with the error of Acquire. Run releases the held
// resources at its end.
//
// Several resources are acquired in the order of the calls of Exclusive, and released in the reverse order. Call Exclusive
// before Run.
func (u *Upgrader) Exclusive(name string, r Resource) { u.estate.resources.add(name, r) }

// Keep passes the value v from the old process to the new process under a name, and back if the upgrade is aborted. If the old
// process has sent data for the name, Keep restores v before Keep returns. If a value returns an error, the candidate fails in
// the check phase. Call Keep before Run.
//
// The methods of v are called while the program serves, so they must be safe for concurrent use. UnmarshalBinary may be called
// twice in a new process: with a snapshot at the start, and with fresh data at the commit. If the upgrade is aborted,
// UnmarshalBinary is called in the old process, which may have changed its own value during the upgrade. If the old process
// crashes during an upgrade, and the supervisor starts the service again beside the candidate, UnmarshalBinary is called in the
// serving process when the candidate ends. If both processes may change the value, UnmarshalBinary should merge the data into
// the value in these two cases. The data may come from another version of the program: return an error for data that the method
// does not understand. A slow method delays the upgrade, and the upgrade fails if a method takes longer than Options.Timeout.
// The methods must not call the Upgrader.
func (u *Upgrader) Keep(name string, v interface {
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}) {
	kept := make(chan struct{})
	go func() { // ends when UnmarshalBinary has returned
		defer close(kept)
		u.estate.keeper.Keep(name, v)
	}()
	limit := u.origin.limit - u.origin.limit/10 // so the old process receives the reason before its Timeout
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

// Run serves until ctx ends, a signal asks for a stop, serve returns, or another generation has taken over. It returns the
// error of serve. Run calls serve at once in a new goroutine. serve has to accept on all listeners, and to finish when its
// context ends. The cause of that context has a method Handover() bool, which returns true for an upgrade and false for a plain
// stop. In a candidate that is taken back, Run returns an *Error for which errors.Is reports ErrAborted; main should then end
// with a non-zero status. After a plain stop of a service whose supervisor has died, Run returns ErrUnsupervised. Run may be
// called once.
//
// Run returns when all goroutines of Run have ended, with two exceptions: a goroutine that writes a line to a stuck log (see
// Options.Logger), and a serve that goes on after the end of its context and is not known to drain. In the second case Run
// returns ErrServeStuck (see Options.StuckAfter), and main should end the process, which also ends serve.
func (u *Upgrader) Run(ctx context.Context, serve func(context.Context) error) error {
	if err := u.control.begin(); err != nil {
		return err
	}
	return newGeneration(&u.parts).run(ctx, serve)
}

// Close stops a running Run, as a plain stop does, and waits until Run has returned. Do not call Close in functions that Run
// calls: serve, a check, or a method of a kept value. Close may be called twice, and also before Run. A candidate that calls
// Close before it serves notifies the old process of its failure. The error is always nil: Close implements io.Closer.
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
