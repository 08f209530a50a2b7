//go:build linux

package loss

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
	"google.golang.org/grpc"

	"github.com/midair-go/midair/examples/grpcserver/echopb"
)

// plainMain is the same service as it is written by hand: tableflip, as its documentation shows, then Shutdown and
// GracefulStop, with a limit after which what is left is closed. A WebSocket or a raw connection has nobody who tells it.
func plainMain() error {
	dir := os.Getenv(dirEnv)
	up, err := tableflip.New(tableflip.Options{PIDFile: filepath.Join(dir, "pid")})
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
	lns, err := listenAll(dir, up.Listen)
	if err != nil {
		return err
	}
	hs := newHTTP()
	if hs.TLSConfig, err = selfSigned(); err != nil {
		return err
	}
	gs := grpc.NewServer()
	echopb.RegisterEchoServer(gs, &echoes{done: func(context.Context) <-chan struct{} { return nil }})
	go hs.Serve(lns[web])
	go hs.ServeTLS(lns[sec], "", "")
	go gs.Serve(lns[rpc])
	conns := serveLines(lns[raw])
	if err := up.Ready(); err != nil {
		return err
	}
	<-up.Exit()
	shutdown(hs, gs, lns[raw], conns)
	return nil
}

// limit is how long the shutdown by hand may take: some things do not end by themselves.
const limit = 2 * time.Second

func shutdown(hs *http.Server, gs *grpc.Server, ln net.Listener, conns *sync.WaitGroup) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	stop := context.AfterFunc(ctx, gs.Stop)
	defer stop()
	_ = all(
		func() error { return hs.Shutdown(ctx) },
		func() error { gs.GracefulStop(); return nil },
		func() error {
			ended := make(chan struct{})
			go func() { conns.Wait(); close(ended) }()
			select {
			case <-ended:
			case <-ctx.Done():
			}
			return ln.Close()
		},
	)
	_ = hs.Close()
}

func serveLines(ln net.Listener) *sync.WaitGroup {
	conns := new(sync.WaitGroup)
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer nc.Close()
				lines(nc, nil)
			})
		}
	}()
	return conns
}
