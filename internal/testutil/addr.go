package testutil

import (
	"net"
	"strconv"
	"testing"
)

// FreeAddr returns an address of this host where nothing listens. Another process may take the address before the test
// does, so a server which can listen on port 0 and report the port needs no FreeAddr.
func FreeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("free address: %v", err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// FreePort returns a TCP port that is free at every address of this host. A port that the kernel chooses for a single address
// may be in use at another.
func FreePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatalf("free port: %v", err)
	}
	defer ln.Close()
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
}
