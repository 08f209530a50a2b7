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
	"github.com/midair-go/midair/upgrade/internal/broadcast"
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/pidfile"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/state"
	"github.com/midair-go/midair/upgrade/internal/wire"
)

// Upgrader is one generation of a program that replaces itself while it runs. All methods may be called from any goroutine.
type Upgrader struct {
	parts
}

// New begins a generation. Call New first in main. New finds out whether this process replaces another process. If so, New
// receives listeners and state from the old process, and may wait for the old process, at most Options.Timeout. There can be
// one Upgrader in a process. Call Close at the end.
//
// After New the process lives on if the reader of its standard output or error ends. Without New, SIGPIPE would end the process
// when it writes the next line of its log. New subscribes to SIGPIPE by os/signal.Notify, so a write to the broken pipe returns
// an error. Child processes do not inherit this behaviour.
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
		u.estate.broadcasts.Close()
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
		estate:  estate{keeper: state.NewKeeper(o.StateLimit), pid: pidfile.New(o.PIDFile), log: o.Logger, broadcasts: broadcast.New(o.Logger)},
		traffic: traffic{hurry: make(chan struct{})},
		control: newControl(),
		shown:   shown{status: Status{State: "starting", Generation: 1, Version: o.Version, PID: os.Getpid(), Started: time.Now()}},
	}}
	e := &u.estate
	e.opts = &u.opts
	u.announcer = announcer{estate: e, origin: &u.origin, version: o.Version, unwatch: func() {}}
	u.history.elders = newElders(e.takeState)
	if tf == nil { // tf.Fds cannot be used, and listener.New needs a nil interface in its place
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

// Listen returns a listener for the network tcp, tcp4, tcp6 or unix. If the old process has a listener of the same network and
// address, Listen returns this listener. Otherwise it opens a new listener. So ":0" keeps its port. A unix address that begins
// with @ is an abstract name. Several listeners of the same address are distinguished by the order of the calls. Call Listen
// before Run. Listen also works while Run runs. But if the old process has opened a socket before its Run, the candidate has to
// open the same socket before its Run, too (see Options.MayClose). Upgrades do not check a socket that was opened during Run.
//
// Accept waits until this generation has to serve. It returns a *net.TCPConn or a *net.UnixConn, even if the connection comes
// from another process. If a candidate dies, the connections that it has accepted by Accept are lost. Package drain avoids
// this, because it accepts by another method, AcceptMoved: if the candidate dies, the old process serves the connections from
// which the candidate has not read. Close the listener as usual. An upgrade passes open listeners to the new process. The
// commit closes the listeners that the new process does not open again (see Options.MayClose).
//
// The new version may spell an address in another way than the old version, for example "localhost:80" and "127.0.0.1:80": the
// socket is the same. On Linux, a tcp wildcard may also replace an address with the same port, for example "0.0.0.0:80" for
// "127.0.0.1:80". This is not possible if a service manager holds the socket of that address. An address may replace a wildcard
// as well; in this case, name the wildcard in MayClose.
//
// A socket that replaces another socket in this way listens from the commit on. Its listener also returns the connections that
// wait in the queue of the old socket. The same is true for a further socket that shares an address by SO_REUSEPORT. Both
// processes must belong to the same user, and a file with AllowWrapper cannot replace sockets in this way. In a progressive
// upgrade, an address that replaces a wildcard gets no clients before the commit, so the judge sees none.
//
// When a new process begins to serve, the queue of a socket gets the length that the kernel allows at that time. Listen
// replaces the path of a unix socket if no process listens on the socket. If the program has removed the path of a unix socket
// on which the old process serves, Listen restores the path (on Linux only).
//
// If a service manager has passed a tcp or udp socket with the same address (LISTEN_FDS), this socket is used instead of a new
// one. The network "systemd" selects a passed socket by its name, which is FileDescriptorName= in the unit: Listen("systemd",
// "web").
func (u *Upgrader) Listen(network, address string) (net.Listener, error) {
	ln, err := u.estate.listeners.Listen(network, address, false)
	u.estate.listeners.NoteFailure(err)
	return ln, err
}

// ListenPinned does the same as Listen, but until the commit only the main generation accepts on the listener. Operators use
// such a listener to reach the process that can abort the upgrade, and not the candidate.
func (u *Upgrader) ListenPinned(network, address string) (net.Listener, error) {
	ln, err := u.estate.listeners.Listen(network, address, true)
	u.estate.listeners.NoteFailure(err)
	return ln, err
}

// ListenPacket does the same as Listen, for udp, udp4, udp6 and unixgram. The result has the methods of *net.UDPConn or
// *net.UnixConn. So packet info, ECN and batches work, which QUIC servers need (ReadBatch and WriteBatch of golang.org/x/net).
// But ReadFrom of golang.org/x/net works only with a *net.UDPConn itself. Each method that reads waits in a candidate until the
// commit, and waits in the old process from the commit on. Read of SyscallConn waits as well. Reads in Control of SyscallConn,
// and reads by the descriptor of File, do not wait.
//
// When serve's context ends, the program has to end a waiting read by SetReadDeadline. After the last answer it has to call
// Close; writing works until then. After Options.StuckAfter a waiting read returns net.ErrClosed, as Accept does. CloseRead of
// a unix socket ends the reading in this process only. CloseWrite returns an error, because another process may serve on the
// socket.
func (u *Upgrader) ListenPacket(network, address string) (net.PacketConn, error) {
	pc, err := u.estate.listeners.ListenPacket(network, address)
	u.estate.listeners.NoteFailure(err)
	return pc, err
}

// Check adds a condition for taking over: a candidate is prepared only after fn has returned nil. If Check is called several
// times, Run calls the functions one after the other, in the order of the calls of Check. All functions share one context,
// which ends shortly before Options.Timeout has passed since the start. fn must return when the context ends. A process without
// an old process runs its checks as well. If a check fails there, the process logs the error and serves nevertheless. Call
// Check before Run.
func (u *Upgrader) Check(name string, fn func(context.Context) error) {
	u.checks.add(name, inTime(fn))
}

// Exclusive makes Run hold a resource while this process is the main generation. The first process acquires the resource before
// it accepts. In an upgrade the old process stops accepting and releases the resource right before the commit. The new process
// acquires the resource before it accepts; until then new connections wait in the kernel's queue. If the commit fails, the old
// process acquires the resource again. If it cannot do so within Options.Timeout, it logs an error and serves without the
// resource.
//
// After Release has returned, the old process still answers requests that have begun, and requests on its open connections.
// Either Release has to wait for such requests, or they must work without the resource. If Acquire fails in a process without
// an old process, Run ends with the error of Acquire. Run releases the held resources at its end.
//
// Several resources are acquired in the order of the calls of Exclusive, and released in the reverse order. Call Exclusive
// before Run.
func (u *Upgrader) Exclusive(name string, r Resource) { u.estate.resources.add(name, r) }

// Keep passes the value v under a name from the old process to the new process, and back if the upgrade is aborted. If the old
// process has sent data for the name, Keep restores v before Keep returns. If UnmarshalBinary of v then returns an error, the
// candidate fails in the check phase. Call Keep before Run.
//
// The methods of v are called while the program serves, so they must be safe for concurrent use. They must not call the
// Upgrader. A slow method delays the upgrade. If a method returns an error, or takes longer than Options.Timeout, the upgrade
// fails. The data may come from another version of the program: return an error for data that the method does not understand.
//
// UnmarshalBinary may be called twice in a new process: with a snapshot at the start, and with fresh data at the commit. There is
// no second call if MarshalBinary of the old process returns the same bytes both times. A change that the candidate has made to
// its value then stays. With one more method, a value also saves the second call of MarshalBinary:
//
//	Changes() uint64 // the number of changes of the value until now
//
// If Changes returns the same number as at the start, the library takes the value for unchanged. So each change must raise the
// number, under the same lock or after the change, and not before it.
//
// UnmarshalBinary may also be called in a process that serves, in two cases. The first case is an aborted upgrade: UnmarshalBinary
// is called in the old process. The second case is a crash of the old process during an upgrade, after which the supervisor has
// started the service again beside the candidate: UnmarshalBinary is called in the process that the supervisor has started, when
// the candidate ends. In both cases the process may have changed its own value in the meantime. If so, UnmarshalBinary should
// merge the data into the value.
//
// The bytes pass through a file in memory. Beyond what its MarshalBinary returns, the old process needs no memory for them, and the
// new process needs their size once, until UnmarshalBinary has returned. UnmarshalBinary may use the slice as its own.
func (u *Upgrader) Keep(name string, v interface {
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}) {
	kept := make(chan struct{})
	go func() { // ends when UnmarshalBinary has returned
		defer close(kept)
		u.estate.keeper.Keep(name, v)
	}()
	limit := u.origin.limit - u.origin.limit/10 // so that the old process receives the reason within its Timeout
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

// Run serves until ctx ends, a signal asks for a stop, serve returns, or another generation has taken over. It calls serve at
// once in a new goroutine, and returns the error of serve. serve has to accept on all listeners, and to finish when its context
// ends. The cause of that context (see context.Cause) has a method Handover() bool, which returns true for an upgrade and false
// for a plain stop. Run may be called once.
//
// If a candidate is taken back, its Run returns an *Error for which errors.Is reports ErrAborted. Main should then end with a
// non-zero status. After a plain stop of a service whose supervisor has died, Run returns ErrUnsupervised.
//
// Run returns when all goroutines of Run have ended, with three exceptions. The first is a goroutine that writes a line to a
// stuck log (see Options.Logger). The second is a function of OnBroadcast that does not return within a second. The third is a
// serve that goes on after the end of its context and is not known to drain. In this case Run returns ErrServeStuck (see
// Options.StuckAfter), and main should end the process, which also ends serve.
func (u *Upgrader) Run(ctx context.Context, serve func(context.Context) error) error {
	if err := u.control.begin(); err != nil {
		return err
	}
	return newGeneration(&u.parts).run(ctx, serve)
}

// Close stops a running Run, as a plain stop does, and waits until Run has returned. Do not call Close in a function that Run
// calls: serve, a check, or a method of a kept value. Close may be called twice, and also before Run. If a candidate calls
// Close before it serves, the old process is notified that the candidate has failed. The error is always nil; Close has this
// result because io.Closer needs it.
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
	u.estate.broadcasts.Close()
	u.announcer.leave()
	close(u.control.ended)
}
