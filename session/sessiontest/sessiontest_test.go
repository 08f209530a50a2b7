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

// TestFlawedStore is run by TestEachFlawIsFound, in another process.
func TestFlawedStore(t *testing.T) {
	flaw := os.Getenv("FLAW")
	if flaw == "" {
		t.Skip("it is made to fail")
	}
	sessiontest.Run(t, func(*testing.T) session.Store {
		if flaw == "split" {
			return split{newMemory("")}
		}
		return newMemory(flaw)
	})
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
		"split":     {"OneCreateWins", "NoSwapIsLost", "NoSwapBringsADeletedRecordBack"},
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for flaw, promises := range flaws {
		t.Run(flaw, func(t *testing.T) {
			cmd := exec.Command(self, "-test.run=^TestFlawedStore$")
			cmd.Env = append(os.Environ(), "FLAW="+flaw)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("all checks passed:\n%s", out)
			}
			for _, promise := range promises {
				if !strings.Contains(string(out), "--- FAIL: TestFlawedStore/"+promise+" ") {
					t.Errorf("%s was kept:\n%s", promise, out)
				}
			}
		})
	}
}
