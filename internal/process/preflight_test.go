package process

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"testing/iotest"
)

// infoOf returns the build information of a program that could replace this program, after the function change has changed it.
func infoOf(change func(*debug.BuildInfo)) *debug.BuildInfo {
	own, _ := debug.ReadBuildInfo()
	info := &debug.BuildInfo{
		Path: own.Path, Main: debug.Module{Path: "example.com/service"},
		Deps:     []*debug.Module{{Path: "example.com/other"}, {Path: library}},
		Settings: []debug.BuildSetting{{Key: "GOOS", Value: runtime.GOOS}, {Key: "GOARCH", Value: runtime.GOARCH}},
	}
	change(info)
	return info
}

// A program is refused if its build information shows that it cannot, or should not, replace this program. If the build
// information does not show this, the program is accepted.
func TestBuildInformationDecides(t *testing.T) {
	const any, none = "", "-"
	for _, c := range []struct {
		name   string
		change func(*debug.BuildInfo)
		refuse string // a part of the error of an upgrade; any: no error
		again  string // a part of the error of a restart; none: the same as in refuse
	}{
		{"itself", func(*debug.BuildInfo) {}, any, none},
		{"the library's own program", func(b *debug.BuildInfo) { b.Deps, b.Main.Path = nil, library }, any, none},
		{"a replaced library", func(b *debug.BuildInfo) {
			b.Deps = []*debug.Module{{Path: library, Replace: &debug.Module{Path: "../midair"}}}
		}, any, none},
		{"neither library", func(b *debug.BuildInfo) { b.Deps, b.Path = nil, "example.com/other" }, "does not use " + library, none},
		{"a test", func(b *debug.BuildInfo) { b.Deps = nil }, any, none}, // go test does not list the modules
		{"a library like it", func(b *debug.BuildInfo) { b.Deps = []*debug.Module{{Path: library + "x"}} }, "does not use " + library, none},
		{"no module information", func(b *debug.BuildInfo) { b.Deps, b.Main = nil, debug.Module{} }, any, none},
		{"no settings", func(b *debug.BuildInfo) { b.Settings = nil }, any, none},
		{"nothing known", func(b *debug.BuildInfo) { *b = debug.BuildInfo{} }, any, none},
		{"another system", func(b *debug.BuildInfo) { b.Settings[0].Value = "plan9" }, "is built for plan9/" + runtime.GOARCH + ", this machine needs " + runtime.GOOS + "/" + runtime.GOARCH, none},
		{"another processor", func(b *debug.BuildInfo) { b.Settings[1].Value = "mips" }, "is built for " + runtime.GOOS + "/mips", none},
		{"another program", func(b *debug.BuildInfo) { b.Path = "example.com/other" }, "is example.com/other, and ", any},
		{"a list of files", func(b *debug.BuildInfo) { b.Path = "command-line-arguments" }, any, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			again := map[string]string{none: c.refuse}[c.again]
			for _, p := range []struct {
				Policy
				want string
			}{
				{Policy{SameBuild: errors.New("the same")}, c.refuse}, {Policy{}, c.refuse}, {Policy{Plain: errors.New("plain")}, c.refuse},
				{Policy{Other: true}, again},
			} {
				err := suits(infoOf(c.change), p.Policy)
				if p.want == any && err != nil || p.want != any && (err == nil || !strings.Contains(err.Error(), p.want)) {
					t.Errorf("%+v: %v, want %q", p.Policy, err, p.want)
				}
			}
		})
	}
}

// A program that uses tableflip and not this library can replace this program, unless the policy refuses such programs.
func TestTableflipIsRefusedIfThePolicySaysSo(t *testing.T) {
	info := infoOf(func(b *debug.BuildInfo) { b.Deps = []*debug.Module{{Path: sibling}} })
	if err := suits(info, Policy{}); err != nil {
		t.Errorf("without a reason: %v", err)
	}
	reason := errors.New("cannot be rehearsed")
	if err := suits(info, Policy{Plain: reason}); !errors.Is(err, reason) || !strings.Contains(err.Error(), info.Path+", which knows tableflip only, and cannot be rehearsed") {
		t.Errorf("with a reason: %v", err)
	}
}

// Two files are the same only if all bytes are equal. A difference at any place is found.
func TestContentIsComparedToTheEnd(t *testing.T) {
	const piece = 256 << 10
	for _, size := range []int{0, 1, piece - 1, piece, piece + 1, 2 * piece, 2*piece + 7} {
		a := bytes.Repeat([]byte{7}, size)
		same := func(b []byte) bool { return sameContent(bytes.NewReader(a), iotest.HalfReader(bytes.NewReader(b))) }
		if !same(bytes.Clone(a)) {
			t.Errorf("%d equal bytes differ", size)
		}
		if same(append(bytes.Clone(a), 7)) {
			t.Errorf("%d bytes and one more are the same", size)
		}
		for _, at := range []int{0, size / 2, piece - 1, piece, size - 1} {
			if at < 0 || at >= size {
				continue
			}
			b := bytes.Clone(a)
			b[at]++
			if same(b) || same(a[:at]) {
				t.Errorf("%d bytes: a difference at %d is not seen", size, at)
			}
		}
	}
}

// A file that cannot be read to its end is not the same as any other file.
func TestUnreadableContentIsNotTheSame(t *testing.T) {
	broken := func() io.Reader {
		return io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(errors.New("disk")))
	}
	if sameContent(broken(), broken()) || sameContent(broken(), strings.NewReader("abc")) {
		t.Error("it is the same")
	}
}

// A build counts as built for this machine if its build information does not name the platform.
func TestUnknownPlatformIsThisOne(t *testing.T) {
	info := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "GOOS", Value: "plan9"}}}
	if got := setting(info, "GOOS"); got != "plan9" {
		t.Errorf("GOOS %q", got)
	}
	if got := setting(info, "GOARCH"); got != runtime.GOARCH {
		t.Errorf("GOARCH %q", got)
	}
}
