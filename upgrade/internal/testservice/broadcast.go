//go:build linux

package testservice

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/midair-go/midair/upgrade"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// broadcasts registers functions for broadcasts, and carries out orders to broadcast until stop is closed.
func broadcasts(up *upgrade.Upgrader, dir string, stop <-chan struct{}) error {
	heard, err := os.OpenFile(plan.HeardFile(dir, os.Getpid()), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	note := func(name string) func([]byte) error {
		return func(data []byte) error {
			_, err := fmt.Fprintf(heard, "%s %s\n", name, data)
			return err
		}
	}
	up.OnBroadcast(plan.News, note(plan.News))
	up.OnBroadcast(plan.Blocks, func([]byte) error {
		for !exists(filepath.Join(dir, "go")) {
			time.Sleep(time.Millisecond) // this is the work
		}
		return nil
	})
	up.OnBroadcast(plan.Panics, func([]byte) error { panic("in a function of OnBroadcast") })
	up.OnBroadcast(plan.Asks, func(data []byte) error { return up.Broadcast(plan.News, data) })
	go func() { // ends with stop
		defer heard.Close()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for registered := false; ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if !registered && exists(filepath.Join(dir, "register")) {
				registered = true
				up.OnBroadcast(plan.Late, note(plan.Late))
			}
			say(up, dir)
		}
	}()
	return nil
}

// say carries out an order, if there is one.
func say(up *upgrade.Upgrader, dir string) {
	b, err := os.ReadFile(plan.SayFile(dir, os.Getpid()))
	if err != nil {
		return
	}
	var order plan.Say
	var errs []string
	if err := json.Unmarshal(b, &order); err != nil {
		errs = append(errs, err.Error())
	}
	for _, data := range order.Data {
		if err := up.Broadcast(order.Name, []byte(data)); err != nil {
			errs = append(errs, err.Error())
		}
	}
	if order.Dies {
		for n := 0; len(errs) > 0 && n < 60; n++ { // a slow reader: messages wait in this process, and die with it
			if up.Broadcast("flush", nil) == nil { // behind all others, in the sockets
				break
			}
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	if err := os.WriteFile(plan.SaidFile(dir, os.Getpid()), []byte(strings.Join(errs, "\n")), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "said:", err)
	}
	if err := os.Remove(plan.SayFile(dir, os.Getpid())); err != nil {
		fmt.Fprintln(os.Stderr, "said:", err)
	}
}
