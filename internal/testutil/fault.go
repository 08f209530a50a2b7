package testutil

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// faultEnv is the variable of the environment with the faults for a process and its descendants.
const faultEnv = "MIDAIR_TEST_FAULT"

// GoOnSuffix is what a test appends to the onceFile of a fault: a file with that name makes a process go on that is held at the
// fault.
const GoOnSuffix = ".go-on"

// fault is a planned failure at a named point.
type fault struct {
	point, action string
	generation    int64  // the fault acts in this generation only; 0: in any
	file          string // the fault acts only if this file exists; empty: always
	once          string // the fault acts only if the process can create this file; empty: always
}

// generation is the number that SetGeneration has set.
var generation atomic.Int64

// faults returns the faults in the variable faultEnv.
var faults = sync.OnceValues(func() ([]fault, error) { return parseFaults(os.Getenv(faultEnv)) })

// FaultSpec describes a fault: what a process does when it calls Fault(point). The actions are kill (the process sends
// SIGKILL to itself), stop (it sends SIGSTOP to itself), exit:N, hang (Fault never returns), hold (Fault returns when there
// is a file with the name of onceFile and the suffix GoOnSuffix; other goroutines go on) and panic. "action@2" acts in
// generation 2 only, "action@/path" only while the file exists. If onceFile is not empty, the fault acts only in the process
// that creates this file: other processes inherit the environment, and the next good upgrade must not fail.
func FaultSpec(point, action, onceFile string) string {
	spec := point + "=" + action
	if onceFile != "" {
		spec += "!" + onceFile
	}
	return spec
}

// FaultEnv returns the entry for Cfg.Env with the given faults.
func FaultEnv(specs ...string) string { return faultEnv + "=" + strings.Join(specs, ",") }

// SetGeneration sets the number of this process's generation, for actions such as "action@2".
func SetGeneration(n int) { generation.Store(int64(n)) }

// Fault is the hook that the code under test calls at its named points. If the environment has a fault for the point, Fault
// writes "fault <point> <action> <pid>" to standard error and executes the action. Otherwise Fault returns.
func Fault(name string) {
	planned, err := faults()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for _, f := range planned {
		if f.point == name && f.due() {
			f.act()
		}
	}
}

func parseFaults(list string) ([]fault, error) {
	var all []fault
	for spec := range strings.SplitSeq(list, ",") {
		if spec == "" {
			continue
		}
		f, err := parseFault(spec)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

func parseFault(spec string) (fault, error) {
	var f fault
	rest, once, _ := strings.Cut(spec, "!")
	rest, when, conditional := strings.Cut(rest, "@")
	f.point, f.action, _ = strings.Cut(rest, "=")
	f.once = once
	if n, err := strconv.ParseInt(when, 10, 64); err == nil {
		f.generation = n
	} else {
		f.file = when
	}
	if f.point == "" || !known(f.action) || conditional && when == "" || f.action == "hold" && once == "" {
		return fault{}, fmt.Errorf("testutil: no fault %q", spec)
	}
	return f, nil
}

func known(action string) bool {
	if code, ok := strings.CutPrefix(action, "exit:"); ok {
		_, err := strconv.Atoi(code)
		return err == nil
	}
	return action == "kill" || action == "stop" || action == "hang" || action == "hold" || action == "panic"
}

// due reports whether the fault acts now. The file once comes last, since due creates the file.
func (f fault) due() bool {
	if f.generation != 0 && f.generation != generation.Load() {
		return false
	}
	if f.file != "" {
		if _, err := os.Stat(f.file); err != nil {
			return false
		}
	}
	return f.once == "" || claim(f.once)
}

// claim reports whether this call created the file.
func claim(path string) bool {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

func (f fault) act() {
	fmt.Fprintf(os.Stderr, "fault %s %s %d\n", f.point, f.action, os.Getpid())
	if now := time.Now(); f.once != "" {
		_ = os.Chtimes(f.once, now, now) // tests read the time of the fault from the file
	}
	switch f.action {
	case "kill":
		killSelf()
		hang()
	case "stop":
		stopSelf()
	case "hang":
		hang()
	case "hold":
		for _, err := os.Stat(f.once + GoOnSuffix); err != nil; _, err = os.Stat(f.once + GoOnSuffix) {
			<-time.After(time.Millisecond)
		}
	case "panic":
		panic("fault " + f.point)
	default:
		code, _ := strconv.Atoi(strings.TrimPrefix(f.action, "exit:")) // never fails: known has checked the action
		os.Exit(code)
	}
}

// hang never returns. It uses a timer, so the runtime does not report a deadlock.
func hang() {
	for {
		<-time.After(time.Hour)
	}
}
