package drain_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"

	"github.com/midair-go/midair/drain"
)

// Who the peer of a unix socket is can be asked of what Hijack and ServeTCP give, by the descriptor and by a message.
func TestUnixSocketsTellTheirPeer(t *testing.T) {
	for _, raw := range []bool{false, true} {
		asked := make(chan struct{})
		who := func(nc net.Conn) {
			defer close(asked)
			rc, err := nc.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Error(err)
				return
			}
			var cred *syscall.Ucred
			rc.Control(func(fd uintptr) {
				cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1)
			})
			if err != nil || int(cred.Pid) != os.Getpid() {
				t.Errorf("the peer is %+v, %v", cred, err)
			}
			nc.Write([]byte("say"))
			buf, oob := make([]byte, 10), make([]byte, 100)
			n, oobn, _, _, err := nc.(interface {
				ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error)
			}).ReadMsgUnix(buf, oob)
			if err != nil || string(buf[:n]) != "hello" || oobn == 0 {
				t.Errorf("got %q with %d bytes beside it, %v", buf[:n], oobn, err)
			}
		}
		s, ln := prepare(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if nc, _, err := http.NewResponseController(w).Hijack(); err == nil {
				defer nc.Close()
				who(nc)
			}
		})}, drain.Options{}), listenOn(t, "unix")
		s.run(func(ctx context.Context) error {
			if raw {
				return s.ServeTCP(ctx, ln, func(_ context.Context, nc net.Conn) { who(nc) })
			}
			return s.Serve(ctx, ln)
		})
		c := dialTo(t, ln.Addr())
		if !raw {
			c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		c.r.Discard(len("say"))
		c.send("hello")
		<-asked
		c.Close()
		s.stop()
		s.clean()
	}
}
