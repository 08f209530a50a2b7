//go:build linux

package testservice

import (
	"context"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/upgrade/internal/testservice/plan"
)

// plainMain is a program with tableflip alone, as the documentation of tableflip shows.
func plainMain(set plan.Settings, dir string) error {
	up, err := tableflip.New(tableflip.Options{PIDFile: set.PIDFile})
	if err != nil {
		return err
	}
	defer up.Stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		for range hup {
			_ = up.Upgrade()
		}
	}()
	ln, err := up.Listen("tcp", set.Addr)
	if err != nil {
		return err
	}
	j, err := testutil.OpenJournal(filepath.Join(dir, "journal")) // open until the end, as the service's
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: j.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Version", "plain")
		w.Header().Set("X-Pid", strconv.Itoa(os.Getpid()))
	}))}
	go srv.Serve(ln)
	if !up.HasParent() { // it stays what it is
		if err := os.WriteFile(filepath.Join(dir, "addr"), []byte(ln.Addr().String()), 0o600); err != nil {
			return err
		}
	}
	if err := up.Ready(); err != nil {
		return err
	}
	<-up.Exit()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return srv.Shutdown(ctx)
}
