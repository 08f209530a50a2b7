package testutil_test

import (
	"net"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// A free address refuses connections until a server listens there.
func TestNothingListensOnAFreeAddr(t *testing.T) {
	addr := testutil.FreeAddr(t)
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Errorf("%s accepts", addr)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
}
