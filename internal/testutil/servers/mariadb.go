package servers

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
)

// A MariaDB is a MariaDB server from Debian, with the database "test" and the users "root", a superuser, and "app", both without a
// password.
type MariaDB struct {
	Server
	socket string
}

// FastMariaDB are settings for tests that are not about durability on disks.
var FastMariaDB = []string{"innodb-flush-log-at-trx-commit=2", "sync-binlog=0", "innodb-doublewrite=0"}

// mariaUsers makes the database and the user of programs.
const mariaUsers = "CREATE DATABASE IF NOT EXISTS test; CREATE USER IF NOT EXISTS app@'127.0.0.1';" +
	" GRANT ALL ON test.* TO app@'127.0.0.1'"

// StartMariaDB makes a MariaDB server, and waits until it answers. settings are "name=value", and stand over the usual ones.
func StartMariaDB(t testing.TB, settings ...string) *MariaDB {
	t.Helper()
	program := testutil.Program(t, "mariadbd", "mariadb-server")
	install := testutil.Program(t, "mariadb-install-db", "mariadb-server")
	client := testutil.Program(t, "mariadb", "mariadb-client")
	base := ownedDir(t, "mysql")
	data := filepath.Join(base, "data")
	m := &MariaDB{socket: filepath.Join(base, "socket")}

	ctx, cancel := context.WithTimeout(context.Background(), 2*startLimit)
	defer cancel()
	made := asUser(t, "mysql", []string{install, "--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal",
		"--skip-test-db", "--innodb-log-file-size=8M"})
	cmd := exec.CommandContext(ctx, made[0], made[1:]...)
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}

	addr := testutil.LastingAddr(t)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{program, "--no-defaults", "--datadir=" + data, "--bind-address=" + host, "--port=" + port, "--socket=" + m.socket,
		"--pid-file=" + filepath.Join(base, "pid"), "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M", "--skip-name-resolve"}
	for _, s := range settings {
		args = append(args, "--"+s)
	}
	m.Server = Server{
		Addr: addr, t: t, name: "mariadbd", quit: syscall.SIGTERM,
		launch: func() *testutil.Proc { return startAs(t, "mysql", base, args...) },
		ready: func() error {
			if err := dial(addr); err != nil { // cheaper than a client for each try
				return err
			}
			_, err := output(client, "--no-defaults", "--socket="+m.socket, "-uroot", "-Ne", "SELECT 1")
			return err
		},
	}
	m.Start()
	m.SQL(mariaUsers)
	return m
}

// dial reports why no process accepts connections at addr.
func dial(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// SQL runs statements as the superuser, and returns the rows as text.
func (m *MariaDB) SQL(text string) string {
	m.t.Helper()
	out, err := output(testutil.Program(m.t, "mariadb", "mariadb-client"), "--no-defaults", "--socket="+m.socket, "-uroot", "-Ne", text)
	if err != nil {
		m.t.Fatalf("%s: %s: %v", m, text, err)
	}
	return strings.TrimSpace(out)
}
