//go:build linux

package testservice

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// value is the kept value of the service: a number, raised by requests.
type value struct {
	mu     sync.Mutex
	n      int
	sent   int                   // how often MarshalBinary was called; it is a part of the bytes, so that they always change
	times  int                   // how often UnmarshalBinary was called
	refuse func(times int) error // nil: never
	meets  *trouble
	hang   atomic.Bool // MarshalBinary does not return
	fail   atomic.Bool // MarshalBinary returns an error
}

// MarshalBinary implements encoding.BinaryMarshaler.
func (v *value) MarshalBinary() ([]byte, error) {
	v.meets.meet(plan.InMarshal)
	if v.hang.Load() {
		fmt.Fprintln(os.Stderr, plan.SaysMarshalHangs)
		select {}
	}
	if v.fail.Load() {
		return nil, errors.New("not now")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sent++
	return fmt.Appendf(nil, "%d %d", v.n, v.sent), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (v *value) UnmarshalBinary(b []byte) error {
	v.meets.meet(plan.InUnmarshal)
	v.mu.Lock()
	v.times++
	times := v.times
	v.mu.Unlock()
	if v.refuse != nil {
		if err := v.refuse(times); err != nil {
			return err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	number, _, _ := strings.Cut(string(b), " ")
	n, err := strconv.Atoi(number)
	v.n = max(v.n, n)
	return err
}

func (v *value) add() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.n++
	return v.n
}
