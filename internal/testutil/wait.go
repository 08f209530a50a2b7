package testutil

import (
	"testing"
	"time"
)

// Until polls cond, with pauses that grow from 1 to 20 ms, until the result is true. After timeout Until ends the test with a
// message that contains what, the description of the condition. Until must be called from the goroutine of the test.
func Until(t testing.TB, timeout time.Duration, what string, cond func() bool) {
	t.Helper()
	if !poll(timeout, cond) {
		t.Fatalf("waited %v for %s", timeout, what)
	}
}

// Within polls cond as Until does, and reports whether cond was true within timeout. Within may be called from any goroutine.
func Within(timeout time.Duration, cond func() bool) bool { return poll(timeout, cond) }

// poll reports whether cond was true within timeout. It calls cond at once, again after each pause, and a last time after the
// timeout.
func poll(timeout time.Duration, cond func() bool) bool {
	deadline := time.Now().Add(timeout)
	for pause := time.Millisecond; !cond(); pause = min(pause*3/2, 20*time.Millisecond) {
		if time.Now().After(deadline) {
			return cond()
		}
		time.Sleep(pause)
	}
	return true
}
