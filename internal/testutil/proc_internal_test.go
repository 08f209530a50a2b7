package testutil

import (
	"strings"
	"testing"
)

// The tail of an output is its last lines, whether or not the last one is complete.
func TestTailKeepsLastLines(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"one", "one"},
		{"one\ntwo\n", "one\ntwo\n"},
		{"one\ntwo\nthree\n", "two\nthree\n"},
		{"one\ntwo\nthree", "two\nthree"},
	} {
		if got := tail(tt.in, 2); got != tt.want {
			t.Errorf("tail of %q is %q, want %q", tt.in, got, tt.want)
		}
	}
}

// What started this process does not reach the ones that it starts, except through Cfg.
func TestEnvironmentIsScrubbed(t *testing.T) {
	t.Setenv(familyEnv, "outer")
	t.Setenv(faultEnv, "here=kill")
	t.Setenv("KEPT", "yes")
	env := strings.Join(environ("server"), "\n")
	if strings.Contains(env, familyEnv) || strings.Contains(env, faultEnv) {
		t.Errorf("environment of the test is inherited: %s", env)
	}
	if !strings.Contains(env, "KEPT=yes") || !strings.Contains(env, roleEnv+"=server") {
		t.Errorf("environment is incomplete: %s", env)
	}
}
