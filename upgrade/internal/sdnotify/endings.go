package sdnotify

import (
	"strconv"
	"sync"
)

// endings holds the supervisor's messages about the ends of candidates. The supervisor sends such messages because it is the
// parent of the candidates, and so learns of their ends.
type endings struct {
	mu  sync.Mutex
	all map[int]chan string // by pid; see meet
}

// tell delivers a message about the end of a candidate. It reports whether m is such a message.
func (e *endings) tell(m Message) (told bool) {
	pid, err := strconv.Atoi(m.Value(WordEnded))
	if err == nil {
		e.meet(pid) <- m.Value(WordStatus)
	}
	return err == nil
}

// meet returns the channel for the end of a candidate. For each pid there are two calls, by tell and by EndOf, in any order.
// The first call makes the channel, and the second call removes it from the map.
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
