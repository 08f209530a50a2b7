package upgrade

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/midair-go/midair/upgrade/internal/wire"
)

// takeState takes the values, if there are any, that another process sends at its end.
func (u *Upgrader) takeState(from int, f wire.Frame, stop <-chan struct{}) {
	if len(f.Files) > 0 {
		u.restore(from, f.Files[0], stop)
	}
}

// restore gives the program the state of another process. The wait for UnmarshalBinary ends after Timeout, and with stop, which is
// the end of this process.
func (u *Upgrader) restore(from int, state *os.File, stop <-chan struct{}) {
	done := make(chan error, 1)
	go func() { done <- u.keeper.Receive(state) }() // ends when UnmarshalBinary does
	var err error
	select {
	case err = <-done:
	case <-stop:
		err = errors.New("this process ends before the value's UnmarshalBinary has returned")
	case <-time.After(u.opts.Timeout):
		err = fmt.Errorf("a kept value's UnmarshalBinary did not return within %v", u.opts.Timeout)
	}
	if err != nil {
		u.log.Error("upgrade: cannot take the state of a process that goes", "pid", from, "err", err)
	}
	u.keeper.Forget()
}
