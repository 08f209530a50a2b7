//go:build linux

package testservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// lock is a resource that the kernel gives to a single process at a time, and a diary of the holders.
type lock struct {
	dir     string
	refuses func(resource string) error
	meets   *trouble
	file    *os.File
}

// locks has the kinds of locks, and whether each is a resource for the background.
var locks = map[plan.Lock]bool{plan.LockServing: false, plan.LockBackground: true}

// holdLock makes the service hold the lock and a second resource, if the settings say so.
func holdLock(up *upgrade.Upgrader, kind plan.Lock, dir string, refuses func(resource string) error, meets *trouble) *lock {
	if kind == "" {
		return nil
	}
	l := &lock{dir: dir, refuses: refuses, meets: meets}
	if refuses == nil {
		l.refuses = func(string) error { return nil }
	}
	up.Exclusive("lock", upgrade.Resource{Acquire: l.acquire, Release: l.release, Background: locks[kind]})
	up.Exclusive("second", upgrade.Resource{
		Background: locks[kind],
		Acquire:    func(context.Context) error { return l.refuses("second") },
	})
	return l
}

// held reports whether this process has the lock.
func (l *lock) held() bool { return l != nil && l.file != nil }

func (l *lock) acquire(ctx context.Context) error {
	l.meets.meet(plan.InAcquire)
	if err := l.refuses("lock"); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(l.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	for { // flock has no context
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			f.Close()
			return fmt.Errorf("somebody holds it: %w", ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	l.file = f
	return l.note("has")
}

func (l *lock) release(context.Context) error {
	l.meets.meet(plan.InRelease)
	err := l.note("leaves")
	return errors.Join(err, l.file.Close())
}

// note adds a line to the diary. The caller holds the lock.
func (l *lock) note(what string) error {
	f, err := os.OpenFile(filepath.Join(l.dir, "diary"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d %s\n", os.Getpid(), what)
	return errors.Join(err, f.Close())
}
