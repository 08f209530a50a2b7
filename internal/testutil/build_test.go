package testutil_test

import (
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// A program is built once for each set of link flags, and has them.
func TestBuildLinksFlagsOnce(t *testing.T) {
	paths := map[string]bool{}
	for _, version := range []string{"v1", "v2", "v1"} {
		path := testutil.Build(t, "./testdata/hello", "-X main.version="+version)
		paths[path] = true
		p := testutil.StartCommand(t, testutil.Cfg{}, path)
		if got := p.WaitOutput(patience, "version "); got != version {
			t.Errorf("built with %s, prints %s", version, got)
		}
	}
	if len(paths) != 2 {
		t.Errorf("%d programs for two versions: %v", len(paths), paths)
	}
}

// A program that cannot be built fails the test with what the compiler said.
func TestBuildReportsCompiler(t *testing.T) {
	got := failure(t, func(t testing.TB) { testutil.Build(t, "./testdata/missing", "") })
	if !strings.Contains(got, "missing") {
		t.Errorf("failure %q does not name the package", got)
	}
}
