//go:build linux

package main_test

import (
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m, nil) }

// After TERM the service is not ready, still answers while load balancers notice, and then ends with status 0.
func TestTermIsAnnouncedBeforeTheEnd(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	p := testutil.StartCommand(t, testutil.Cfg{}, testutil.Build(t, "./../drainonly", ""), "-addr", addr, "-propagation", "2s")
	status := func(path string) int {
		c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := c.Get("http://" + addr + path)
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	testutil.Until(t, 20*time.Second, "it is ready", func() bool { return status("/readyz") == 200 })
	l := testutil.StartLoad(t, testutil.LoadOptions{Addr: addr, KeepAlive: 4, New: 2, Path: "/"})
	p.Signal(syscall.SIGTERM)
	testutil.Until(t, 20*time.Second, "it is not ready any more", func() bool { return status("/readyz") == 503 })
	if got := status("/"); got != 200 {
		t.Errorf("during propagation: status %d", got)
	}
	r := l.Stop()
	if len(r.Failed) > 0 || r.Answered == 0 {
		t.Errorf("requests were lost while load balancers notice\n%s", r)
	}
	if code, err := p.Wait(20 * time.Second); code != 0 || err != nil {
		t.Errorf("exit %d, %v", code, err)
	}
}
