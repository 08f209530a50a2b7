package testutil

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"sort"
	"strings"
	"time"
)

// Counts returns how many goroutines, open descriptors and child processes this process has. A role can publish the numbers, so
// that a test can check whether they grow in a thousand upgrades.
func Counts() (goroutines, fds, children int) {
	return runtime.NumGoroutine(), len(descriptors()), len(childProcesses())
}

// OpenFDs lists the open descriptors of this process as "number target", in the order of their numbers.
func OpenFDs() []string {
	fds := descriptors()
	nums := make([]int, 0, len(fds))
	for fd := range fds {
		nums = append(nums, fd)
	}
	sort.Ints(nums)
	list := make([]string, len(nums))
	for i, fd := range nums {
		list[i] = fmt.Sprintf("%d %s", fd, fds[fd])
	}
	return list
}

// census is the goroutines, descriptors and children of this process at one moment.
type census struct {
	goroutines map[string]string // the stack, by the number of the goroutine
	fds        map[int]string    // what the descriptor refers to, by descriptor
	children   map[int]string    // the command line, by pid
}

// firstCensus returns the census before the tests, with the descriptors that the runtime opens once and never closes.
func firstCensus() census {
	if r, w, err := os.Pipe(); err == nil { // starts the network poller
		r.Close()
		w.Close()
	}
	return takeCensus()
}

func takeCensus() census {
	return census{stacks(), descriptors(), childProcesses()}
}

// leaked lists what this process has now and had not at an earlier census. leaked waits for at most patience until the list is
// empty.
func leaked(before census, patience time.Duration) []string {
	http.DefaultClient.CloseIdleConnections()
	var left []string
	poll(patience, func() bool {
		left = takeCensus().beyond(before)
		return len(left) == 0
	})
	return left
}

// beyond lists what is in c and not in before.
func (c census) beyond(before census) []string {
	var left []string
	for id, stack := range c.goroutines {
		if _, ok := before.goroutines[id]; !ok {
			left = append(left, "testutil: leaked goroutine "+stack)
		}
	}
	for fd, target := range c.fds {
		if before.fds[fd] != target {
			left = append(left, fmt.Sprintf("testutil: leaked descriptor %d %s", fd, target))
		}
	}
	for pid, command := range c.children {
		if _, ok := before.children[pid]; !ok {
			left = append(left, fmt.Sprintf("testutil: leaked child %d %s", pid, command))
		}
	}
	sort.Strings(left)
	return left
}

// stacks returns the stacks of all goroutines, except this goroutine and the permanent goroutines of the standard library.
func stacks() map[string]string {
	buf := make([]byte, 1<<20)
	for n := runtime.Stack(buf, true); ; n = runtime.Stack(buf, true) {
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	all := map[string]string{}
	for i, stack := range bytes.Split(buf, []byte("\n\n")) {
		head, _, _ := strings.Cut(string(stack), "\n")
		var id string
		if _, err := fmt.Sscanf(head, "goroutine %s", &id); err != nil || i == 0 || permanent(string(stack)) {
			continue
		}
		all[id] = string(stack)
	}
	return all
}

// permanent reports whether a goroutine is one that the standard library starts once and never ends.
func permanent(stack string) bool {
	return strings.Contains(stack, "os/signal.signal_recv") ||
		strings.Contains(stack, "os/signal.loop") ||
		strings.Contains(stack, "runtime.ensureSigM")
}
