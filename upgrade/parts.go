package upgrade

import (
	"log/slog"

	"github.com/cloudflare/tableflip"
)

// parts is the data that the Upgrader, which the program holds, shares with the goroutine of Run. Each part has one purpose. A
// part that several goroutines change has its own lock (see below).
type parts struct {
	opts Options
	log  *slog.Logger
	tel  *telemetry
	tf   *tableflip.Upgrader // nil on platforms without upgrades

	origin    origin    // how this process was started, and by which process
	estate    estate    // the listeners, values and files that the next generation receives
	history   history   // the previous build, and the older generations
	traffic   traffic   // connections and messages that go to other generations
	announcer announcer // notifies the service manager
	control   *control  // passes calls such as Upgrade, Commit, Abort and Close to the goroutine of Run
	checks    checks    // the conditions for taking over
	shown     shown     // the part of Status that the generation and its attempts set
}

// The locks of this package and of the packages in internal, in the order in which a goroutine takes them: a goroutine that
// holds a lock may take the locks of lower lines, and no lock of the same line or of a higher line. A lock of the first part may
// be held while a function of the program, a resolver, a file system or another process is slow. So the loop of Run takes none
// of these locks. A lock of the second part is held only during system calls that do not wait, and not while a function of the
// program is called.
//
// TrySend is an exception. It takes wire.Link.turn, which is a channel, and gives up after a limit, at most 50 ms (failedWait).
// So the loop may call TrySend. A holder of handoff.flow.mu or handoff.Dispatcher.mu may call TrySend with the limit 0.
//
//	shares.turn            a weight is set and sent
//	traffic.moving         read-locked while a connection moves; locked by awaitMoves
//	listener.Set.opening   a socket is opened
//	listener.paths.using   the path of a unix socket is made, put back or removed
//	pidfile.File.mu        the pid file or the outcome is written
//	process.Child.queue    sockets are sent to a child that has not sent hello
//	wire.Link.turn         a message is sent, within two seconds
//
//	shares.mu              the stage of the attempt, and what setWeight changes in this process
//	attempt.mu             the stage, and the request for another upgrade
//	room.mu                the reserve of descriptors; the listeners are held and resumed
//	handoff.flow.mu        the idle connections that wait to be passed
//	handoff.Dispatcher.mu  the weight, and the connections that were passed
//	listener.sockets.mu    the open sockets, while Follow calls its functions as well
//	listener.gate.mu, listener.Received.mu, listener.origins.mu, listener.emptying.mu
//	                       the state of a socket; the sockets that came; the names of listeners; the queues that are emptied
//	wire.batches.mu        the messages with connections that were not answered
//	broadcast.Hub.mu       the sockets to other generations, and the queues of messages
//	sdnotify.Activation.mu, sdnotify.nameSet.mu, sdnotify.Notifier.mu, sdnotify.endings.mu
//	                       the sockets that the service manager has passed and keeps; the queue of messages; ends of candidates
//	Candidate.mu, elders.mu, previous.mu, resources.mu, checks.mu, control.mu, shown.mu, unwritten.mu, traffic.mu, state.Keeper.mu
//	                       each the other fields of its struct
