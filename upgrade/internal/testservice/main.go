//go:build linux

package testservice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
	"golang.org/x/sys/unix"
)

// Roles returns the programs for testutil.Main by their names.
func Roles(parts Parts) map[string]func() int {
	return map[string]func() int{
		"service":  func() int { return supervised(parts) },
		"launcher": func() int { return exitCode(launch()) },
		"listens":  func() int { return exitCode(listensMain()) },
		"talks":    func() int { return exitCode(talksMain(parts)) },
	}
}

func exitCode(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "main:", err)
		return 1
	}
	return 0
}

// supervised is the service as a program with Supervise in the first line.
func supervised(parts Parts) int {
	set, _, err := readSettings()
	if err = errors.Join(err, Validate(set)); err != nil {
		return exitCode(err)
	}
	code, ok := upgrade.Supervise(upgrade.Options{
		Supervisor: cmp.Or(set.Supervisor, "never"), Guard: set.Guard, GiveUp: set.GiveUp,
		Watchdog: set.Watchdog, Timeout: set.Timeout, AbortGrace: set.AbortGrace,
	})
	if ok {
		return code
	}
	return exitCode(serviceMain(parts))
}

// serviceMain is an ordinary program with the library: two listeners, a value to keep, a server with a drain.
func serviceMain(parts Parts) error {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	parts.SetStepHook(testutil.Fault)
	set, dir, err := readSettings()
	if err = errors.Join(err, Validate(set)); err != nil {
		return err
	}
	parts.SetClock(set.Clock)
	if set.Cleaned {
		os.Unsetenv("MIDAIR_CHANNEL")
		os.Unsetenv("LISTEN_FDS")
	}
	if set.Simple {
		os.Setenv("SYSTEMD_EXEC_PID", strconv.Itoa(os.Getpid()))
	}
	if set.Undumpable {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			return err
		}
	}
	if err := drop(set, plan.DropFirst); err != nil {
		return err
	}
	if set.Plain {
		return plainMain(set, dir)
	}
	if set.RestartsFail && os.Getenv("MIDAIR_OUTCOME") != "" {
		os.Exit(7)
	}
	upgraded := os.Getenv("TABLEFLIP_HAS_PARENT_7DIU3") != ""
	bad := misbehave(set.Bad, upgraded)
	startHelper(plan.HelperOfMain)
	if bad.start != nil {
		bad.start()
	}
	flush, err := meddle(set.Meddling)
	if err != nil {
		return err
	}
	defer flush()
	t := troubleOf(set, dir, upgraded)
	up, err := upgrade.New(options(set, dir, t))
	if err != nil {
		return err
	}
	defer up.Close()
	testutil.SetGeneration(up.Status().Generation)
	s := &service{parts: parts, up: up, set: set, dir: dir, upgraded: upgraded, bad: bad, trouble: t}
	return s.run()
}

var splits = map[plan.Split]func(net.Conn, float64) bool{
	plan.SplitAll: func(net.Conn, float64) bool { return true },
}

// options returns the options of the settings.
func options(set plan.Settings, dir string, t *trouble) upgrade.Options {
	opts := upgrade.Options{
		Executable: filepath.Join(dir, "exe"), PIDFile: set.PIDFile, Version: set.Version,
		Soak: set.Soak, Timeout: set.Timeout, AbortGrace: set.AbortGrace, StuckAfter: set.StuckAfter,
		MaxGenerations: set.MaxGenerations, Sticky: set.Sticky, Silence: set.Silence,
		MayClose: set.MayClose, AllowPlain: set.AllowPlain, AllowWrapper: set.AllowWrapper,
	}
	if set.Smoke != "" {
		opts.Smoke = func(ctx context.Context, c *upgrade.Candidate) error {
			t.meet(plan.InSmoke)
			return smoke(ctx, c)
		}
	}
	if set.Bake != "" {
		opts.Bake = func(ctx context.Context, c *upgrade.Candidate) error {
			t.meet(plan.InBake)
			if t.In != plan.InSubscribe {
				return bake(ctx, c)
			}
			c.Subscribe("news", func([]byte) error { t.meet(plan.InSubscribe); return nil })
			<-ctx.Done()
			return ctx.Err()
		}
	}
	if set.Verify != "" {
		opts.Verify = func(path string) error {
			t.meet(plan.InVerify)
			return verifications[set.Verify](dir, path)
		}
	}
	opts.Split = splits[set.Split]
	if t.In == plan.InSplit {
		opts.Split = func(net.Conn, float64) bool { t.meet(plan.InSplit); return true }
	}
	return opts
}
