package sdnotify

import (
	"strconv"
	"sync"
)

// endings are how candidates have ended, as the supervisor has told, which is their parent.
type endings struct {
	mu  sync.Mutex
	all map[int]chan string // by pid; what comes later of question and answer takes it out
}

// tell hears how a candidate has ended, if the message is about that.
func (e *endings) tell(m Message) (told bool) {
	pid, err := strconv.Atoi(m.Value(WordEnded))
	if err == nil {
		e.meet(pid) <- m.Value(WordStatus)
	}
	return err == nil
}

func (e *endings) meet(pid int) chan string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := e.all[pid]; ok {
		delete(e.all, pid)
		return c
	}
	if e.all == nil {
		e.all = map[int]chan string{}
	}
	c := make(chan string, 1)
	e.all[pid] = c
	return c
}
