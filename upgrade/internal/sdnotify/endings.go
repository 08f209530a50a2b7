package sdnotify

import (
	"strconv"
	"sync"
)

// endings are the supervisor's messages about the end of candidates, whose parent the supervisor is.
type endings struct {
	mu  sync.Mutex
	all map[int]chan string // by pid; what comes later of question and answer takes it out
}

// tell takes a message about the end of a candidate, and reports whether the message is one.
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
