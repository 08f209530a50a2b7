package grpcdrain_test

import (
	"context"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/midair-go/midair/drain"
	"github.com/midair-go/midair/drain/grpcdrain"
)

// A looker has credentials that look at the connection. Real credentials do so, for example, to ask a unix socket for its peer.
type looker struct {
	credentials.TransportCredentials
	conns chan net.Conn
}

func (l looker) ServerHandshake(nc net.Conn) (net.Conn, credentials.AuthInfo, error) {
	l.conns <- nc
	return l.TransportCredentials.ServerHandshake(nc)
}

// Credentials of gRPC get connections with every exported method of the types of package net. So credentials can ask for the
// peer.
func TestCredentialsGetEveryMethodOfNet(t *testing.T) {
	for network, of := range map[string]reflect.Type{"tcp": reflect.TypeFor[*net.TCPConn](), "unix": reflect.TypeFor[*net.UnixConn]()} {
		addr := "127.0.0.1:0"
		if network == "unix" {
			addr = filepath.Join(t.TempDir(), "s")
		}
		ln, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		seen := looker{insecure.NewCredentials(), make(chan net.Conn, 1)}
		gs := grpc.NewServer(grpc.Creds(seen))
		grpc_health_v1.RegisterHealthServer(gs, &handler{})
		srv := grpcdrain.NewServer(gs, drain.Options{})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- srv.Serve(ctx, ln) }()
		target := ln.Addr().String()
		if network == "unix" {
			target = "unix:" + target
		}
		cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := grpc_health_v1.NewHealthClient(cc).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
			t.Errorf("a call: %v", err)
		}
		nc := <-seen.conns
		for i := range of.NumMethod() {
			name := of.Method(i).Name
			if m := reflect.ValueOf(nc).MethodByName(name); !m.IsValid() || m.Type() != reflect.Zero(of).Method(i).Type() {
				t.Errorf("%T has not the method %s of %v", nc, name, of)
			}
		}
		if raw, err := nc.(syscall.Conn).SyscallConn(); err != nil {
			t.Error(err)
		} else if err := raw.Control(func(uintptr) {}); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		cc.Close()
	}
}

// The GOAWAY is also noticed if it is copied to the connection by ReadFrom.
func TestGoAwayIsSeenInACopy(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for text, want := range map[string]bool{"a frame": false, "a frame and graceful_stop": true} {
		if got := grpcdrain.Told(nc, strings.NewReader(text)); got != want {
			t.Errorf("%q is taken for the GOAWAY: %v", text, got)
		}
	}
}

// A null is a connection that takes every byte.
type null struct{ net.Conn }

func (null) Write(p []byte) (int, error) { return len(p), nil }

// Handlers learn of the drain after a tenth of a second if a connection has TLS, even if the server writes its first byte on
// this connection during the drain. A connection on which nothing was written does not delay the drain.
func TestWaitForTheGoAwayIsShortWithTLS(t *testing.T) {
	tls, plain := []byte{0x16, 3, 1}, []byte("settings")
	nothing := func([]net.Conn) {}
	write := func(n int, b []byte) func([]net.Conn) { return func(all []net.Conn) { all[n].Write(b) } }
	for name, c := range map[string]struct {
		first, later func([]net.Conn)
		want         time.Duration
	}{
		"nothing was written":    {nothing, nothing, 0},
		"TLS":                    {write(0, tls), nothing, 100 * time.Millisecond},
		"no TLS":                 {write(0, plain), nothing, time.Second},
		"TLS begins in the wait": {write(0, plain), func(all []net.Conn) { time.Sleep(50 * time.Millisecond); all[1].Write(tls) }, 100 * time.Millisecond},
		"TLS begins late":        {write(0, plain), func(all []net.Conn) { time.Sleep(300 * time.Millisecond); all[1].Write(tls) }, 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				grpcdrain.AwaitsGoAway(t.Context(), []net.Conn{null{}, null{}}, c.first, c.later)
				if waited := time.Since(began); waited != c.want {
					t.Errorf("waited %v, want %v", waited, c.want)
				}
			})
		})
	}
}
