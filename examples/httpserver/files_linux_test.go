package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// A service whose directory with pid, address, flags and sessions was removed serves after a crash, and writes the pid and the
// address as soon as the directory is there again.
func TestServesAfterACrashWithoutItsFiles(t *testing.T) {
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	p := testutil.StartCommand(t, testutil.Cfg{Dir: dir}, build(t, "v1"), "-addr=127.0.0.1:0", "-admin=", "-addr-file=run/addr",
		"-pid-file=run/pid", "-flags=run/flags", "-sessions=run/sessions")
	addr, _, _ := strings.Cut(p.WaitOutput(patience, "msg=serving addr="), " ")
	p.WaitOutput(patience, "upgrade: supervisor: main generation") // before that, its end would be the supervisor's
	testutil.Until(t, patience, "the service has its pid file", func() bool { _, err := readPID(filepath.Join(run, "pid")); return err == nil })
	dead, err := readPID(filepath.Join(run, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	serves := func() bool {
		resp, err := http.Get("http://" + addr + "/version")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK && resp.Header.Get("X-Generation") == "2"
	}
	if err := os.RemoveAll(run); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(run, nil, 0o600); err != nil { // so that the service does not make the directory again
		t.Fatal(err)
	}
	if err := syscall.Kill(dead, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testutil.Until(t, patience, "the service serves again", serves)
	if err := os.Remove(run); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	testutil.Until(t, patience, "the files are written", func() bool {
		b, _ := os.ReadFile(filepath.Join(run, "addr"))
		pid, err := readPID(filepath.Join(run, "pid"))
		return strings.TrimSpace(string(b)) == addr && err == nil && pid != dead
	})
	p.Signal(syscall.SIGTERM)
	if code, err := p.Wait(patience); err != nil || code != 0 {
		t.Errorf("exit status %d, %v", code, err)
	}
}
