package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// A Postgres is a PostgreSQL server from Debian. What it has committed outlives Kill; with FastPostgres among the settings it does
// not have to outlive a loss of power.
type Postgres struct {
	Server
	bin string // the directory of the programs
	dir string
}

// FastPostgres are settings for tests that are not about durability on disks.
var FastPostgres = []string{"fsync=off", "synchronous_commit=off", "full_page_writes=off"}

// StartPostgres makes a PostgreSQL server with the database "postgres" and the superuser "postgres", who needs no password on the
// loopback interface, and waits until the server answers. settings are "name=value", and stand over the usual ones.
func StartPostgres(t testing.TB, settings ...string) *Postgres {
	t.Helper()
	p := newPostgres(t, settings)
	p.run("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D", p.dir)
	p.Start()
	return p
}

// Standby makes a server with a copy of the data of p, which follows p until it is promoted.
func (p *Postgres) Standby(settings ...string) *Postgres {
	p.t.Helper()
	s := newPostgres(p.t, settings)
	host, port, err := net.SplitHostPort(p.Addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.run("pg_basebackup", "--no-sync", "-h", host, "-p", port, "-U", "postgres", "-D", s.dir, "-R", "-X", "stream", "-c", "fast")
	s.Start()
	return s
}

// Promote makes a standby a primary, and waits until it takes writes.
func (p *Postgres) Promote() {
	p.t.Helper()
	p.run("pg_ctl", "promote", "-w", "-D", p.dir)
}

func newPostgres(t testing.TB, settings []string) *Postgres {
	p := &Postgres{bin: postgresPrograms(t), dir: filepath.Join(ownedDir(t, "postgres"), "data")}
	addr := testutil.LastingAddr(t)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{filepath.Join(p.bin, "postgres"), "-D", p.dir, "-h", host, "-p", port, "-k", filepath.Dir(p.dir)}
	usual := []string{"shared_buffers=32MB", "max_connections=200", "max_wal_senders=4", "hot_standby=on", "autovacuum=on"}
	for _, s := range append(usual, settings...) {
		args = append(args, "-c", s)
	}
	p.Server = Server{
		Addr: addr, t: t, name: "postgres", quit: syscall.SIGINT, // the fast shutdown
		launch: func() *testutil.Proc { return startAs(t, "postgres", filepath.Dir(p.dir), args...) },
		ready: func() error {
			state, err := os.ReadFile(filepath.Join(p.dir, "postmaster.pid")) // cheaper than a client for each try
			if err != nil || !strings.Contains(string(state), "ready") && !strings.Contains(string(state), "standby") {
				return fmt.Errorf("postmaster.pid: %q, %v", state, err)
			}
			out, err := output(filepath.Join(p.bin, "psql"), "-h", host, "-p", port, "-U", "postgres", "-Atc", "SELECT 1", "postgres")
			if err == nil && strings.TrimSpace(out) != "1" {
				err = errors.New(out)
			}
			return err
		},
	}
	return p
}

// run runs a program of the server as the user who owns the data.
func (p *Postgres) run(name string, args ...string) {
	p.t.Helper()
	args = asUser(p.t, "postgres", append([]string{filepath.Join(p.bin, name)}, args...))
	ctx, cancel := context.WithTimeout(context.Background(), 2*startLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// SQL runs a statement as the superuser, and returns the rows as text.
func (p *Postgres) SQL(text string) string {
	p.t.Helper()
	host, port, _ := net.SplitHostPort(p.Addr)
	out, err := output(filepath.Join(p.bin, "psql"), "-h", host, "-p", port, "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-Atc", text, "postgres")
	if err != nil {
		p.t.Fatalf("%s: %s: %v", p, text, err)
	}
	return strings.TrimSpace(out)
}

// postgresPrograms is the directory of the newest version.
func postgresPrograms(t testing.TB) string {
	t.Helper()
	find := func() string {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
		best, newest := "", 0
		for _, f := range found {
			dir := filepath.Dir(f)
			if n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && n > newest {
				best, newest = dir, n
			}
		}
		return best
	}
	dir := find()
	if dir == "" {
		testutil.Program(t, "pg_ctlcluster", "postgresql")
		dir = find()
	}
	if dir == "" {
		testutil.Missing(t, "initdb", "postgresql", os.ErrNotExist)
	}
	return dir
}

// output runs a program with a time limit, and returns its standard output.
func output(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), err
}

// ownedDir makes a temporary directory that a user owns, and can reach, if this process may change users.
func ownedDir(t testing.TB, name string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		return t.TempDir()
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "midair-"+name+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return dir
}

// asUser returns the command that runs a command as a user. Only root needs it: servers of databases refuse root.
func asUser(t testing.TB, name string, args []string) []string {
	t.Helper()
	if os.Geteuid() != 0 {
		return args
	}
	setpriv := testutil.Program(t, "setpriv", "util-linux")
	return append([]string{setpriv, "--reuid=" + name, "--regid=" + name, "--clear-groups", "--"}, args...)
}

// startAs starts a server as a user. When the test ends, the children of the server are killed with it: they lead sessions of their
// own, and nobody finds them once their parent has gone.
func startAs(t testing.TB, name, dir string, args ...string) *testutil.Proc {
	t.Helper()
	args = asUser(t, name, args)
	p := testutil.StartCommand(t, testutil.Cfg{Dir: dir}, args[0], args[1:]...)
	t.Cleanup(func() { killAll(p) })
	return p
}

func killAll(p *testutil.Proc) {
	each := func(sig os.Signal) {
		for _, pid := range p.Family() {
			if child, err := os.FindProcess(pid); err == nil {
				_ = child.Signal(sig) // fails if the process has ended
			}
		}
	}
	// A suspended parent starts no more children. A signal takes a moment: until then it may.
	testutil.Within(startLimit, func() bool {
		each(suspend)
		return !slices.ContainsFunc(p.Family(), runs)
	})
	each(os.Kill)
}
