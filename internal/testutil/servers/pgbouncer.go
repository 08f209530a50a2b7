package servers

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// StartPgBouncer starts a pooler in front of p, with two connections to p and a transaction mode: each transaction of a client gets
// any of the two.
func StartPgBouncer(t testing.TB, p *Postgres) *Server {
	t.Helper()
	program := testutil.Program(t, "pgbouncer", "pgbouncer")
	dir, addr := ownedDir(t, "postgres"), testutil.LastingAddr(t)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	toHost, toPort, err := net.SplitHostPort(p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("[databases]\n* = host=%s port=%s user=postgres\n[pgbouncer]\nlisten_addr = %s\nlisten_port = %s\n"+
		"unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 200\n", toHost, toPort, host, port)
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &Server{
		Addr: addr, t: t, name: "pgbouncer", quit: syscall.SIGINT,
		launch: func() *testutil.Proc { return startAs(t, "postgres", dir, program, file) },
		ready: func() error {
			if err := dial(addr); err != nil {
				return err
			}
			_, err := output(filepath.Join(p.bin, "psql"), "-h", host, "-p", port, "-U", "postgres", "-Atc", "SELECT 1", "postgres")
			return err
		},
	}
	s.Start()
	return s
}
