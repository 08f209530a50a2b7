package flags

import "sync"

// A notifier has the goroutine that calls OnChange of the Vars. There is none until start.
type notifier struct {
	stop <-chan struct{} // ends the goroutine

	mu    sync.Mutex
	kick  chan struct{} // wakes the goroutine; nil without it
	ended chan struct{} // closed when the goroutine has ended
}

// start starts the goroutine, once. The goroutine runs the function after each wake.
func (n *notifier) start(run func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kick != nil {
		return
	}
	kick, ended := make(chan struct{}, 1), make(chan struct{})
	n.kick, n.ended = kick, ended
	go func() {
		defer close(ended)
		for {
			select {
			case <-n.stop:
				return
			case <-kick:
				run()
			}
		}
	}()
}

// wake lets the goroutine run, if there is one. A nil kick blocks for ever, so default is taken.
func (n *notifier) wake() {
	n.mu.Lock()
	kick := n.kick
	n.mu.Unlock()
	select {
	case kick <- struct{}{}:
	default: // there is no goroutine, or it is awake, or will be
	}
}

// wait waits until the goroutine has ended, if there is one. The channel stop is closed.
func (n *notifier) wait() {
	n.mu.Lock()
	ended := n.ended
	n.mu.Unlock()
	if ended != nil {
		<-ended
	}
}
