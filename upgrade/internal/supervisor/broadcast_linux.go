package supervisor

import (
	"os"
	"strconv"

	"github.com/midair-go/midair/internal/sys"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
)

// A process that the supervisor starts after a crash knows none of the generations that drain, and they do not know the new
// process. So the supervisor makes the broadcast sockets between them. Messages of the application do not pass through the
// supervisor.

// mostIntroduced is how many generations get a broadcast socket to a process that the supervisor starts. A process accepts only
// a few messages between the messages with its listening sockets.
const mostIntroduced = 8

// introduction is a process that is to have a broadcast socket to the process that is about to be started.
type introduction struct {
	pid, number int
	channel     *os.File // the supervisor's end of the channel to the process; the proc closes the file
}

// toIntroduce lists the newest processes that live.
func toIntroduce(procs *children) (all []introduction) {
	for _, p := range procs.byNumber() {
		if p.pid != 0 && !p.dead() {
			all = append(all, introduction{p.pid, p.number, p.inbox.file})
		}
	}
	return all[max(0, len(all)-mostIntroduced):]
}

// arrange makes a broadcast socket, and sends one end over channel to the new process, and the other end to the process of the
// introduction. number is the number of the new process. It does not wait.
func (i introduction) arrange(channel *os.File, number int) error {
	a, b, err := sys.SocketPair()
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	err = send(channel, []*os.File{a}, sdnotify.WordBroadcast,
		sdnotify.WordPID+strconv.Itoa(i.pid), sdnotify.WordGeneration+strconv.Itoa(i.number))
	if err == nil {
		err = send(i.channel, []*os.File{b}, sdnotify.WordBroadcast, sdnotify.WordGeneration+strconv.Itoa(number))
	}
	return sys.Explain(err)
}
