package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// script writes a program for the shell.
func script(t *testing.T, lines string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+lines+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// A service that ends at once is noticed at once, with what it said.
func TestServiceThatDoesNotStart(t *testing.T) {
	s, err := startService(context.Background(), script(t, "echo no such luck >&2; exit 3"), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "the service has ended") {
		t.Fatalf("%v", err)
	}
	if said := s.lastLines(); said != "no such luck" {
		t.Errorf("it said %q", said)
	}
	if err := s.end(patience); err != nil {
		t.Errorf("the end: %v", err)
	}
	if err := <-s.waited; err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("the first process: %v", err)
	}
}

// A service that cannot be started at all leaves nothing to end.
func TestServiceWithoutProgram(t *testing.T) {
	s, err := startService(context.Background(), "/nowhere/program", t.TempDir())
	if s != nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, %v", s, err)
	}
}

// Processes that do not want to go are killed: the first one, and one that the log names.
func TestServiceThatDoesNotEnd(t *testing.T) {
	other := testutil.StartCommand(t, testutil.Cfg{}, script(t, "trap '' TERM; while :; do read x; done </dev/zero"))
	stubborn := fmt.Sprintf(`trap '' TERM
		echo 'level=INFO msg="upgrade: started a new process" candidate=%d' >&2
		echo $$ > "$6"; while :; do read x; done </dev/zero`, other.PID())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir := t.TempDir()
	started := make(chan *service, 1)
	go func() {
		s, _ := startService(ctx, script(t, stubborn), dir) // its error is the end of ctx
		started <- s
	}()
	testutil.Until(t, patience, "it is up", func() bool { _, err := os.Stat(filepath.Join(dir, "pid")); return err == nil })
	cancel()
	s := <-started
	testutil.Until(t, patience, "two processes", func() bool { return len(s.started()) == 2 })
	if err := s.end(100 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "still run") {
		t.Errorf("the end: %v", err)
	}
	if !s.over() {
		t.Error("some processes still run")
	}
	<-s.waited
	if code, err := other.Wait(patience); err != nil || code != 128+9 {
		t.Errorf("the other process: exit code %d, %v", code, err)
	}
}

// A source that does not compile is shown with what the compiler says, and an interrupt ends a build.
func TestBuildFails(t *testing.T) {
	b := builder{src: t.TempDir(), dir: t.TempDir()}
	err := b.build(context.Background(), v1)
	if err == nil || !strings.Contains(err.Error(), "go build in "+b.src) || !strings.Contains(err.Error(), "go.mod") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.build(ctx, v1); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// The link is moved from one release to the next without a moment in which it does not exist.
func TestUse(t *testing.T) {
	b := builder{dir: t.TempDir()}
	for _, version := range []string{"v1", "v2", "v1"} {
		current, err := b.use(version)
		if err != nil {
			t.Fatal(err)
		}
		if to, err := os.Readlink(current); err != nil || to != b.path(version) {
			t.Errorf("%s leads to %s, %v", current, to, err)
		}
	}
}
