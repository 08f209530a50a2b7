package sessiontest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/sessiontest"
)

// A store that keeps its promises passes, whatever it is made of.
func TestAGoodStorePasses(t *testing.T) {
	sessiontest.Run(t, func(*testing.T) session.Store { return newMemory("") })
}

// The same holds for a store with a time to live of its own.
func TestAGoodStoreWithATTLPasses(t *testing.T) {
	sessiontest.Run(t, func(*testing.T) session.Store { return flawed("ttl") })
}

// TestFlawedStore is run by TestEachFlawIsFound, in another process.
func TestFlawedStore(t *testing.T) {
	flaw := os.Getenv("FLAW")
	if flaw == "" {
		t.Skip("it is made to fail")
	}
	sessiontest.Run(t, func(*testing.T) session.Store { return flawed(flaw) })
}

// runFlawed runs a test, or those of its checks that are named, in another process that FLAW is set in.
func runFlawed(t *testing.T, test, flaw string, promises ...string) (out string, err error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	only := "-test.run=^" + test + "$"
	if len(promises) > 0 {
		only += "/^(" + strings.Join(promises, "|") + ")$"
	}
	cmd := exec.Command(self, only)
	cmd.Env = append(os.Environ(), "FLAW="+flaw, "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// A store that breaks a promise fails the check of that promise.
func TestEachFlawIsFound(t *testing.T) {
	flaws := map[string][]string{
		"context":   {"AnEndedContextDoesNothing"},
		"path":      {"AnyIdAndAnyDataWillDo"},
		"case":      {"AnyIdAndAnyDataWillDo"},
		"text":      {"AnyIdAndAnyDataWillDo"},
		"alias":     {"DataBelongsToTheCaller"},
		"expiry":    {"ExpiredIsNotThere"},
		"revision":  {"ARevisionNeverComesBack"},
		"overwrite": {"CreateRefusesAnExistingId", "OneCreateWins"},
		"upsert":    {"WhatIsNotThereIsNotFound", "DeletedIsGone", "NoSwapBringsADeletedRecordBack"},
		"blind":     {"SwapNeedsTheRevision"},
		"touch":     {"TouchChangesTheExpiryAlone"},
		"delete":    {"WhatIsNotThereIsNotFound", "DeletedIsGone"},
		"deadline":  {"ALateContextDoesNothing"},
		"late":      {"ExpiryIsTheSameForAll"},
		"padding":   {"EveryByteComesBack"},
		"reuse":     {"NoRevisionOutlivesAnExpiry"},
		"seconds":   {"AnyExpiryWillDo"},
		"utf8":      {"EveryByteComesBack"},
		"ttl-touch": {"ALifeIsProlonged"},
		"ttl-swap":  {"ALifeIsProlonged"},
		"undead":    {"NoTouchBringsADeletedRecordBack"},
		"torn":      {"ALoadIsOfOneWrite"},
		"forgetful": {"TheSecretStays"},
		"split":     {"OneCreateWins", "OneCreateReplacesAnExpiredRecord", "NoSwapIsLost", "NoSwapBringsADeletedRecordBack"},
	}
	for flaw, promises := range flaws {
		t.Run(flaw, func(t *testing.T) {
			out, err := runFlawed(t, "TestFlawedStore", flaw, promises...)
			if err == nil {
				t.Fatalf("all checks passed:\n%s", out)
			}
			for _, promise := range promises {
				if !strings.Contains(out, "--- FAIL: TestFlawedStore/"+promise+" ") {
					t.Errorf("%s was kept:\n%s", promise, out)
				}
			}
		})
	}
}
