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

// faultEnv holds the faults of a process and its descendants.
const faultEnv = "MIDAIR_TEST_FAULT"

// GoOnSuffix is the end of the name of a file that ends a hold; before the suffix is the name of the fault's file.
const GoOnSuffix = ".go-on"

// fault is a planned failure at a named point.
type fault struct {
	point, action string
	generation    int64  // 0: any
	file          string // acts only if this file exists; empty: always
	once          string // acts only if it can create this file; empty: always
}

// generation is the argument of the role's SetGeneration.
var generation atomic.Int64

// faults are the faults of the environment.
var faults = sync.OnceValues(func() ([]fault, error) { return parseFaults(os.Getenv(faultEnv)) })

// FaultSpec describes a fault: at point, the action is kill (SIGKILL of the process itself), stop (SIGSTOP of itself),
// exit:N, hang (the call never returns), hold (the call returns when there is a file with the name of onceFile and the suffix
// GoOnSuffix, while the other goroutines run on) or panic. "action@2" acts in generation 2 only, "action@/path" only while the
// file exists. If onceFile is not empty, only the process that can create that file acts: the environment is
// inherited, and the next good upgrade must not be hit.
func FaultSpec(point, action, onceFile string) string {
	spec := point + "=" + action
	if onceFile != "" {
		spec += "!" + onceFile
	}
	return spec
}

// FaultEnv is the entry for Cfg.Env that plans the faults.
func FaultEnv(specs ...string) string { return faultEnv + "=" + strings.Join(specs, ",") }

// SetGeneration tells the process's generation, which "action@2" asks for.
func SetGeneration(n int) { generation.Store(int64(n)) }

// Fault is the hook for named points of the code under test: it fails by the environment's plan, or returns. Before it fails it
// writes "fault <point> <action> <pid>" to standard error.
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

// due reports whether the conditions hold. The one-shot guard is asked last, since asking uses it up.
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
		_ = os.Chtimes(f.once, now, now) // the file tells tests when that was
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
		code, _ := strconv.Atoi(strings.TrimPrefix(f.action, "exit:")) // known has parsed it
		os.Exit(code)
	}
}

// hang never returns, and does not look like a deadlock to the runtime.
func hang() {
	for {
		<-time.After(time.Hour)
	}
}
