package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// release is a build of the example with its own version.
type release struct {
	version string
	fail    string // main.fail
	about   string
}

// The releases of the demo.
var (
	v1       = release{version: "v1", about: "good"}
	v2       = release{version: "v2", about: "good"}
	v3       = release{version: "v3", fail: "check", about: "bad: it fails its own check"}
	v4       = release{version: "v4", fail: "after-ready", about: "bad: it exits when it should begin to serve"}
	v5       = release{version: "v5", fail: "slow=150ms", about: "bad: it works, and is slow"}
	v6       = release{version: "v6", fail: "errors=0.02", about: "bad: it answers 2 of 100 requests with an error"}
	crashing = release{version: "cart", fail: "cart-crash=0.01", about: "bad: its cart panics in a goroutine, for 1 of 100 requests"}
	builds   = []release{v1, v2, v3, v4, v5, v6, crashing}
)

// builder makes releases.
type builder struct {
	src string // directory of this package's source
	dir string // where the executables go
}

// newBuilder finds the go command and the source of the example.
func newBuilder(ctx context.Context, dir string) (builder, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return builder{}, fmt.Errorf("the demo builds its versions itself and needs the go command: %w", err)
	}
	src, err := sources(ctx)
	return builder{src: src, dir: dir}, err
}

// sources returns the directory with the source of the example: that of the compiler, or else that of the go command.
func sources(ctx context.Context) (string, error) {
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		if _, err := os.Stat(file); err == nil {
			return filepath.Dir(file), nil
		}
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", errors.New("the demo needs the source of this program, and its executable does not say where it is")
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", info.Path).Output()
	if err != nil {
		return "", fmt.Errorf("the demo needs the source of this program: run it below the module that has %s", info.Path)
	}
	return strings.TrimSpace(string(out)), nil
}

func (b builder) path(version string) string { return filepath.Join(b.dir, "httpserver-"+version) }

// build compiles a release. The build has no workspace, because a workspace names modules that the module cache does not have.
// The temporary files are in the directory of the demo, so that they are removed even if the build is interrupted.
func (b builder) build(ctx context.Context, r release) error {
	ldflags := "-s -w -X main.version=" + r.version + " -X main.fail=" + r.fail
	cmd := exec.CommandContext(ctx, "go", "build", "-o", b.path(r.version), "-ldflags", ldflags, ".")
	cmd.Dir, cmd.Env = b.src, append(os.Environ(), "GOWORK=off", "GOTMPDIR="+b.dir, "TMPDIR="+b.dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it cleans up then
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", b.src, err, out)
	}
	return nil
}

// use points the link, through which the service is started, to a version. At each moment there is a link.
func (b builder) use(version string) (string, error) {
	current, next := filepath.Join(b.dir, "current"), filepath.Join(b.dir, "next")
	if err := os.Symlink(b.path(version), next); err != nil {
		return "", err
	}
	return current, os.Rename(next, current)
}
