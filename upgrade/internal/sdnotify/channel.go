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

// The supervisor identifies a process by its channel, and by nothing in the messages. Each generation has its own channel: a
// pair of unnamed sockets, of which the generation has one end and the supervisor the other.
//
// The process that starts a candidate makes the candidate's channel. Over its own channel this process announces the candidate
// to the supervisor. The announcement carries the supervisor's end of the candidate's channel. The candidate gets the other end
// only when the announcement is in the kernel's queue. So a candidate cannot send before it was announced, and the supervisor
// receives the announcement even if the announcing process ends.

const (
	// ChannelEnv is the variable with the descriptor of the channel, in a process that the supervisor has started.
	ChannelEnv = inherited.ChannelEnv
	// SocketsEnv is the variable with the number of sockets that come over the channel. The supervisor sets the variable in a
	// process that it starts.
	SocketsEnv = "MIDAIR_SOCKETS"
	// SupervisedEnv is set to 1 for a candidate that the old process has to announce to the supervisor, and to "dead" if the
	// supervisor of the service has ended. The supervisor does not trust this variable: only a channel shows that a process
	// belongs to the service.
	SupervisedEnv = "MIDAIR_SUPERVISED"

	supervisorDead = "dead"

	// formerEnv is a variable that the supervisors of older builds set for their generations. These builds had no channels.
	formerEnv = "MIDAIR_SUPERVISOR"
)

// announceLimit is how long Announce and Committing wait at most if the supervisor does not read.
const announceLimit = 5 * time.Second

var errFormer = errors.New("the supervisor, or the process that is to be replaced, is of a build that knows its generations by their environment: stop the service and start it")

// IsSupervised reports whether this process is a generation of a service under the library's supervisor: a child of the
// supervisor with a channel, or a candidate of a supervised process. IsSupervised must be called before New.
func IsSupervised() bool {
	if process.HasParent() {
		return os.Getenv(SupervisedEnv) != ""
	}
	return channelFD() >= 0 || lostChannelFD() >= 0
}

// CheckFormer returns an error if the supervisor or the parent of this process runs an older build, which has no channels.
// CheckFormer must be called before New.
func CheckFormer() error {
	if os.Getenv(formerEnv) != "" && os.Getenv(NotifyEnv) != "" {
		return errFormer
	}
	return nil
}

// channelFD returns the descriptor of the channel that the supervisor has passed to this process; -1 if there is none.
func channelFD() int {
	fd, err := strconv.Atoi(os.Getenv(ChannelEnv))
	if err != nil || fd < 3 || !inherited.IsChannel(fd) {
		return -1
	}
	return fd
}

// errCleaned means that a wrapper has removed variables of the supervisor from the environment of this process.
var errCleaned = errors.New("the environment of this process does not say what the supervisor has passed to it: a wrapper has to leave MIDAIR_CHANNEL and LISTEN_FDS as they are, and to end with exec")

// findChannel takes the channel, if the supervisor has started this process. A candidate gets its channel later: the old
// process sends it with the welcome message, and Attach takes it.
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

// takeChannel takes the channel that the supervisor has passed as the descriptor fd.
func (n *Notifier) takeChannel(fd int) {
	sys.CloseOnExec(fd)                             // if ChannelEnv was removed, package inherited has not done so
	total, _ := strconv.Atoi(os.Getenv(SocketsEnv)) // 0 without the variable: the supervisor sends no sockets
	if err := n.attach(os.NewFile(uintptr(fd), "channel"), total); err != nil {
		n.problem = fmt.Errorf("the channel to the supervisor: %w", err)
		n.log.Error("upgrade: cannot speak to the supervisor: a crash will be noticed, and no upgrade is possible", "err", err)
	}
}

// takeLostChannel takes the channel of a process whose environment was cleaned. So the supervisor learns when the process
// serves, and starts the service again after a crash. But the supervisor keeps no listening sockets for the process: without
// the variables, the process could not find them after a restart.
func (n *Notifier) takeLostChannel(fd int) {
	n.manager = cleanedSupervisor
	n.takeChannel(fd)
	n.problem = errCleaned
	n.log.Error("upgrade: a crash will refuse connections, and no upgrade is possible", "err", errCleaned)
}

// lostChannelFD returns the descriptor of the channel of a process whose environment was cleaned; -1 if there is none. The
// supervisor is the parent of such a process, and usually runs the same build. So lostChannelFD looks for a channel only if the
// parent runs the same build.
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

// Attach gives the Notifier of a candidate the candidate's end of its channel. From now on, the messages in the queue are sent
// over the channel. Attach closes the file.
func (n *Notifier) Attach(file *os.File) error { return n.attach(file, 0) }

// attach is Attach, but first receives the given number of sockets from the channel.
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
	go n.listen() // ends when the supervisor ends, or with Close
	return nil
}

// Supervised reports whether the manager is the library's supervisor and has not ended.
func (n *Notifier) Supervised() bool { return n != nil && n.manager.supervises() && !n.lost() }

// HasChannel reports whether this process has a channel to the library's supervisor, even if the supervisor has ended.
func (n *Notifier) HasChannel() bool {
	return n != nil && n.manager.supervises() && n.manager != lostSupervisor && n.isAttached()
}

// SupervisorState returns "alive" or "dead"; it is empty if the manager is not the library's supervisor.
func (n *Notifier) SupervisorState() string {
	switch {
	case n == nil || !n.manager.supervises():
		return ""
	case n.lost():
		return supervisorDead
	}
	return "alive"
}

// lost reports whether the supervisor has ended. As long as the supervisor runs, it has the other end of the channel open.
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

// Problem returns the reason why no upgrade may begin; nil if there is none.
func (n *Notifier) Problem() error {
	if n == nil {
		return nil
	}
	return n.problem
}

// Candidate describes to the supervisor a process that may become the service. Announce closes the files.
type Candidate struct {
	PID   int
	PIDFD *os.File // the pidfd of the process
	Exe   *os.File // the executable of the process
	Args  *os.File // the arguments and the environment, in the format of state.WriteBuild
}

// Announce announces a candidate to the supervisor, and returns the candidate's end of its channel, which the caller closes.
// After Announce has returned, the supervisor receives the announcement even if this process ends. After an error, it does not
// receive the announcement. Announce waits at most five seconds for a supervisor that does not read. Without the supervisor, both
// results are nil.
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
		ours.Close() // does nothing if ours is nil
		return nil, fmt.Errorf("the supervisor cannot be told of the new process: %w", err)
	}
	return ours, nil
}

// TakePassed returns the named sockets that the supervisor has sent at the start. The first call returns all sockets, later
// calls return none. The caller closes the files. An error means that sockets are missing, so that this process cannot replace
// the process before.
func (n *Notifier) TakePassed() ([]*os.File, error) {
	if n == nil {
		return nil, nil
	}
	files := n.given.files
	n.given.files = nil
	return files, n.given.err
}

// Heard returns the channel that delivers the messages of the library's supervisor, except the reports for EndOf. The channel
// is closed when the supervisor has ended. Without the supervisor it delivers nothing.
func (n *Notifier) Heard() <-chan Message {
	if n == nil {
		return nil
	}
	return n.heard
}

// EndOf returns the channel that delivers how a candidate has ended, as the supervisor reports it. EndOf may be called once for
// each candidate.
func (n *Notifier) EndOf(pid int) <-chan string { return n.endings.meet(pid) }

// nextMessage waits for the next message of the supervisor, and returns the message. If attach has received other messages
// between the sockets, nextMessage returns these first.
func (n *Notifier) nextMessage() (Message, error) {
	if len(n.given.early) == 0 {
		return receive(n.channel)
	}
	m := n.given.early[0]
	n.given.early = n.given.early[1:]
	return m, nil
}

// listen receives messages of the supervisor until the supervisor ends or Close is called.
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
