package sdnotify

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/midair-go/midair/internal/inherited"
	"github.com/midair-go/midair/internal/process"
	"github.com/midair-go/midair/internal/sys"
)

// The supervisor knows a process by its channel, and by nothing in the messages. Each generation has a channel of its own: one end of
// a pair of sockets without a name, whose other end the supervisor has. The process that starts a candidate makes the candidate's
// pair, announces the candidate to the supervisor over its own channel, with the other end, and gives the candidate its end only when
// the announcement is in the kernel's queue. So a candidate cannot send before the announcement, and the announcement outlives the
// process that has made it.
const (
	// ChannelEnv is the descriptor of the channel, in a process that the supervisor has started.
	ChannelEnv = inherited.ChannelEnv
	// SocketsEnv is how many sockets the supervisor gives on the channel to a process that it has started.
	SocketsEnv = "MIDAIR_SOCKETS"
	// SupervisedEnv, set to 1, tells a candidate that it has to be announced. It gives nobody anything. Set to "dead", it tells a
	// candidate that the supervisor of its service has ended.
	SupervisedEnv = "MIDAIR_SUPERVISED"

	supervisorDead = "dead"

	// formerEnv is what a supervisor of a build before the channels told its generations.
	formerEnv = "MIDAIR_SUPERVISOR"
)

// announceLimit is how long an announcement may wait for a supervisor that does not read.
const announceLimit = 5 * time.Second

var errFormer = errors.New("the supervisor, or the process that is to be replaced, is of a build that knows its generations by their environment: stop the service and start it")

// IsSupervised reports whether this process is a generation of this library's supervisor: a child of the supervisor with a
// channel, or a candidate of a supervised process. It is to be called before New.
func IsSupervised() bool {
	if process.HasParent() {
		return os.Getenv(SupervisedEnv) != ""
	}
	return channelFD() >= 0 || lostChannelFD() >= 0
}

// CheckFormer returns an error in a process whose supervisor, or whose parent, is of a build before the channels. It is to be
// called before New.
func CheckFormer() error {
	if os.Getenv(formerEnv) != "" && os.Getenv(NotifyEnv) != "" {
		return errFormer
	}
	return nil
}

// channelFD returns the descriptor of the channel from the supervisor; -1 if there is none.
func channelFD() int {
	fd, err := strconv.Atoi(os.Getenv(ChannelEnv))
	if err != nil || fd < 3 || !inherited.IsChannel(fd) {
		return -1
	}
	return fd
}

// errCleaned is the error of a process of the supervisor with a cleaned environment.
var errCleaned = errors.New("the environment of this process does not say what the supervisor has passed to it: a wrapper has to leave MIDAIR_CHANNEL and LISTEN_FDS as they are, and to end with exec")

// findChannel takes the channel of a process of the supervisor. The channel of a candidate comes with the welcome.
func (n *Notifier) findChannel() {
	switch fd := channelFD(); {
	case process.HasParent():
		if os.Getenv(SupervisedEnv) == supervisorDead {
			n.manager = lostSupervisor
		}
	case fd >= 0:
		n.takeChannel(fd)
	default:
		n.takeLostChannel(lostChannelFD())
	}
}

// takeChannel takes the channel from the supervisor.
func (n *Notifier) takeChannel(fd int) {
	sys.CloseOnExec(fd)                             // package inherited does not find that of a cleaned environment
	total, _ := strconv.Atoi(os.Getenv(SocketsEnv)) // without it nothing is held
	if err := n.attach(os.NewFile(uintptr(fd), "channel"), total); err != nil {
		n.problem = fmt.Errorf("the channel to the supervisor: %w", err)
		n.log.Error("upgrade: cannot speak to the supervisor: a crash will be noticed, and no upgrade is possible", "err", err)
	}
}

// takeLostChannel takes the channel of a process whose environment was cleaned: the supervisor learns from the channel that the
// process serves, and starts the process again after a crash. The supervisor keeps no listening sockets for the process: after
// a restart the process could not find them, without LISTEN_FDS.
func (n *Notifier) takeLostChannel(fd int) {
	n.manager = cleanedSupervisor
	n.takeChannel(fd)
	n.problem = errCleaned
	n.log.Error("upgrade: a crash will refuse connections, and no upgrade is possible", "err", errCleaned)
}

// lostChannelFD looks for the channel of a process whose environment was cleaned; -1 if there is none. The supervisor of such a
// process runs the same build.
func lostChannelFD() int {
	if process.HasParent() || !process.RunsOwnBuild(os.Getppid()) {
		return -1
	}
	for fd := 3; fd < 256; fd++ {
		if inherited.IsChannel(fd) {
			return fd
		}
	}
	return -1
}

// Attach gives a candidate its channel: the queued messages go out now. It closes the file.
func (n *Notifier) Attach(file *os.File) error { return n.attach(file, 0) }

// attach takes a number of sockets from the channel first.
func (n *Notifier) attach(file *os.File, sockets int) error {
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		return err
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return fmt.Errorf("it is a %s socket", c.LocalAddr().Network())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended() || n.channel != nil {
		uc.Close()
		return errors.New("there is one already, or no use for one any more")
	}
	n.channel, n.deafened = uc, make(chan struct{})
	close(n.attached)
	if sockets > 0 {
		n.given.files, n.given.early, n.given.err = receiveSockets(uc, sockets)
	}
	go n.listen() // ends with the supervisor, or with Close
	return nil
}

// Supervised reports whether the manager is this library's supervisor, and lives.
func (n *Notifier) Supervised() bool { return n != nil && n.manager.supervises() && !n.lost() }

// HasChannel reports whether this process has a channel to this library's supervisor, alive or dead.
func (n *Notifier) HasChannel() bool {
	return n != nil && n.manager.supervises() && n.manager != lostSupervisor && n.isAttached()
}

// SupervisorState is alive or dead; empty if the manager is not this library's supervisor.
func (n *Notifier) SupervisorState() string {
	switch {
	case n == nil || !n.manager.supervises():
		return ""
	case n.lost():
		return supervisorDead
	}
	return "alive"
}

// lost reports whether the supervisor has ended: a living supervisor holds the other end of the channel.
func (n *Notifier) lost() bool {
	if n.manager == lostSupervisor {
		return true
	}
	n.mu.Lock()
	c := n.channel
	n.mu.Unlock()
	if c == nil {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	ended := true
	if err := raw.Control(func(fd uintptr) { ended = hungUp(fd) }); err != nil {
		return true
	}
	return ended
}

// Problem returns the reason against an upgrade; nil if nothing is wrong.
func (n *Notifier) Problem() error {
	if n == nil {
		return nil
	}
	return n.problem
}

// Candidate describes to the supervisor a process that may become the service. Announce closes the files.
type Candidate struct {
	PID   int
	PIDFD *os.File // of the process
	Exe   *os.File // what was executed
	Args  *os.File // its arguments and environment, as state.WriteBuild writes them
}

// Announce sends the supervisor a candidate, and returns the candidate's end of its channel, which the caller closes. After the
// return the announcement outlives this process. Announce waits for a supervisor that does not read, at most five seconds. Both
// results are nil without the supervisor.
func (n *Notifier) Announce(c Candidate) (*os.File, error) {
	files := []*os.File{c.PIDFD, nil, c.Exe, c.Args}
	if !n.Supervised() {
		note{files: files}.close()
		return nil, nil
	}
	theirs, ours, err := sys.SocketPair()
	if err == nil {
		files[1] = theirs
		err = n.sendNow(announceLimit, files, WordCandidate, WordPID+strconv.Itoa(c.PID))
	} else {
		note{files: files}.close()
	}
	if err != nil {
		ours.Close() // which does nothing without a file
		return nil, fmt.Errorf("the supervisor cannot be told of the new process: %w", err)
	}
	return ours, nil
}

// TakePassed returns the sockets from the supervisor, named, once. The caller closes the files. With an error some are missing:
// the process could not serve in place of the one before.
func (n *Notifier) TakePassed() ([]*os.File, error) {
	if n == nil {
		return nil, nil
	}
	files := n.given.files
	n.given.files = nil
	return files, n.given.err
}

// Heard returns the channel with the messages of this library's supervisor. The channel is closed when the supervisor has
// ended. Without the supervisor nothing comes.
func (n *Notifier) Heard() <-chan Message {
	if n == nil {
		return nil
	}
	return n.heard
}

// EndOf returns a channel for the supervisor's message about the end of a candidate. It may be called once for each candidate.
func (n *Notifier) EndOf(pid int) <-chan string { return n.endings.meet(pid) }

// nextMessage waits for a message of the supervisor. The messages from among the sockets come first.
func (n *Notifier) nextMessage() (Message, error) {
	if len(n.given.early) == 0 {
		return receive(n.channel)
	}
	m := n.given.early[0]
	n.given.early = n.given.early[1:]
	return m, nil
}

// listen receives messages of the supervisor until the supervisor ends, or until Close.
func (n *Notifier) listen() {
	defer close(n.deafened)
	for {
		m, err := n.nextMessage()
		if err != nil {
			switch {
			case n.ended():
			case errors.Is(err, io.EOF) || n.lost():
				close(n.heard)
			default:
				n.log.Error("upgrade: the supervisor is not understood any more", "err", err)
			}
			return
		}
		if n.endings.tell(m) {
			continue
		}
		select {
		case n.heard <- m:
		case <-n.stop:
			m.Close()
		}
	}
}
