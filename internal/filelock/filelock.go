// Package filelock lets processes take turns by the lock of a file (flock). The lock of a process that dies ends with the
// process.
//
// # Goroutines
//
// The functions may be called from any number of goroutines. Each open file has a lock of its own, so goroutines of one process
// take turns too.
package filelock

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// maxPause is the longest pause between two attempts to get a lock.
const maxPause = 5 * time.Millisecond

// Acquire opens the file name, which it creates with mode 0600 if the file is missing, and waits for the lock of the file. The
// lock ends when the caller closes the file. If ctx ends first, Acquire returns the error of ctx. A platform without flock is
// an errors.ErrUnsupported.
//
// Acquire asks again and again, and does not wait in the kernel: a process that holds the lock may be stopped, and then the
// wait has to end with ctx.
func Acquire(ctx context.Context, name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|NoFollow, 0o600)
	if err != nil {
		return nil, err
	}
	if err := Wait(ctx, f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Wait waits for the lock of an open file or directory. The lock ends when the caller closes the file. If ctx ends first, Wait returns
// the error of ctx.
func Wait(ctx context.Context, f *os.File) error {
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, maxPause) {
		if err := ctx.Err(); err != nil {
			return err
		}
		held, err := Try(f)
		if err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		if held {
			return nil
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}
