package listener

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// If another process has opened a listener, the connections of the listener have the keep-alive of the configuration too.
func TestConnectionsHaveTheKeepAliveOfTheConfiguration(t *testing.T) {
	control := func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 77)
		})
	}
	for _, config := range []net.ListenConfig{
		{}, {KeepAlive: -1}, {KeepAlive: -1, Control: control}, {KeepAlive: 7 * time.Second},
		{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 9 * time.Second, Interval: 8 * time.Second, Count: 7}},
	} {
		old, _ := newSet(t, nil)
		old.Configure(config)
		first := listen(t, old, "tcp", "127.0.0.1:0", false)
		old.Open(true)
		next, _ := newSet(t, nil)
		next.Configure(config)
		handOn(t, old, next)
		second := listen(t, next, "tcp", "127.0.0.1:0", false)
		dial(t, first)
		want := keepAliveOf(t, accept(t, first))
		old.Pause(true)
		next.Open(true)
		dial(t, first)
		if got := keepAliveOf(t, accept(t, second)); got != want {
			t.Errorf("%+v: on, idle, interval, count: %v, in the first generation %v", config, got, want)
		}
	}
}

func keepAliveOf(t *testing.T, c net.Conn) (all [4]int) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		all[0], _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		for i, o := range []int{unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT} {
			all[i+1], _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, o)
		}
	})
	return all
}

// ListenAgain gives the queue of an inherited listener the length that the kernel allows now. The queue of a service manager's
// socket keeps its length.
func TestQueuesFollowTheKernelsLimit(t *testing.T) {
	for _, own := range []bool{true, false} {
		old, _ := newSet(t, nil)
		first := listen(t, old, "tcp", "127.0.0.1:0", false)
		most := queueOf(t, first)
		if err := unix.Listen(old.Refs()[0].fd, 5); err != nil {
			t.Fatal(err)
		}
		if !own {
			old.Refs()[0].from = foreign
		}
		next, _ := newSet(t, nil)
		handOn(t, old, next)
		second := listen(t, next, "tcp", "127.0.0.1:0", false)
		if got := queueOf(t, second); got != 5 {
			t.Errorf("own %v: before the commit: %d", own, got)
		}
		next.ListenAgain()
		want := map[bool]uint32{true: most, false: 5}[own]
		if got := queueOf(t, second); got != want {
			t.Errorf("own %v: %d, want %d", own, got, want)
		}
	}
}

// queueOf returns how long the queue of a listener may become.
func queueOf(t *testing.T, ln net.Listener) uint32 {
	t.Helper()
	raw, err := ln.(*listener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	var failed error
	if err := errors.Join(raw.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }), failed); err != nil {
		t.Fatal(err)
	}
	return info.Sacked
}
