package vendors

import (
	"bytes"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// A vendor ends everything that it has started, except the goroutines in the table. A goroutine of the table that ends is
// a failure too, so that the table follows a better version.
func TestVendorsEnd(t *testing.T) {
	for _, v := range vendors {
		before, files := goroutines(), testutil.OpenFDs()
		t.Run(v.name, func(t *testing.T) {
			provider, _ := v.open(t)
			throughClient(t, provider).ask(questions[0])
		})
		var left []string
		ended := testutil.Within(patience, func() bool {
			left = slices.DeleteFunc(testutil.OpenFDs(), func(f string) bool { return slices.Contains(files, f) })
			for id, stack := range goroutines() {
				if _, ok := before[id]; !ok && v.leak(stack) == "" {
					left = append(left, stack)
				}
			}
			return len(left) == 0
		})
		if !ended {
			t.Errorf("%s leaves\n%s", v.name, strings.Join(left, "\n"))
		}
		v.mustLeak(t, before)
	}
}

// leak returns the function of the table that a stack shows.
func (v vendor) leak(stack string) string {
	for function := range v.leaks {
		if strings.Contains(stack, function) {
			return function
		}
	}
	return ""
}

// mustLeak fails if a function of the table runs in no new goroutine.
func (v vendor) mustLeak(t *testing.T, before map[string]string) {
	t.Helper()
	seen := map[string]bool{}
	for id, stack := range goroutines() {
		if _, ok := before[id]; !ok {
			seen[v.leak(stack)] = true
		}
	}
	for function := range v.leaks {
		if !seen[function] {
			t.Errorf("%s: %s has ended, though the table names it", v.name, function)
		}
	}
}

// goroutines returns the stacks of all goroutines but this one, by number.
func goroutines() map[string]string {
	buf := make([]byte, 4<<20)
	all := map[string]string{}
	for i, stack := range bytes.Split(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
		id, _, _ := strings.Cut(string(stack), " [")
		if i > 0 {
			all[id] = string(stack)
		}
	}
	return all
}
