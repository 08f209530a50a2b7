package servers

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil"
)

// callLimit is how long a command of a test may take.
const callLimit = 10 * time.Second

// A Redis is a Redis server from Debian. Every write is in its append-only file before it is answered, so the data outlives
// Kill.
type Redis struct {
	Server
	password string
}

// StartRedis starts a Redis server and waits until it answers. settings are pairs of configuration names and values, and stand
// over the usual ones.
func StartRedis(t testing.TB, settings ...string) *Redis {
	t.Helper()
	program := testutil.Program(t, "redis-server", "redis-server")
	addr, dir := testutil.LastingAddr(t), t.TempDir()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	config := []string{
		"bind", host, "port", port, "dir", dir, "appendonly", "yes", "appendfsync", "always", "save", "", "daemonize", "no",
		"repl-diskless-sync-delay", "0", "repl-timeout", "5", "enable-debug-command", "yes",
	}
	var args []string
	for i, s := range append(config, settings...) {
		if i%2 == 0 {
			s = "--" + s
		}
		args = append(args, s)
	}
	r := &Redis{}
	for i := 0; i+1 < len(settings); i += 2 {
		if settings[i] == "requirepass" {
			r.password = settings[i+1]
		}
	}
	r.Server = Server{
		Addr: addr, t: t, name: "redis-server", quit: syscall.SIGTERM,
		launch: func() *testutil.Proc { return testutil.StartCommand(t, testutil.Cfg{Dir: dir}, program, args...) },
		ready: func() error {
			_, err := r.call("PING")
			return err
		},
	}
	r.Start()
	return r
}

// Call runs a command on a connection of its own, and returns the answer as text: elements of an array in lines of their own,
// nil as nothing. An error of the server ends the test.
func (r *Redis) Call(args ...string) string {
	r.t.Helper()
	answer, err := r.call(args...)
	if err != nil {
		r.t.Fatalf("%s: %s: %v", r, strings.Join(args, " "), err)
	}
	return answer
}

// call is Call that returns the error.
func (r *Redis) call(args ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", r.Addr, callLimit)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(callLimit)); err != nil {
		return "", err
	}
	in := bufio.NewReader(conn)
	if r.password != "" {
		if _, err := roundTrip(conn, in, "AUTH", r.password); err != nil {
			return "", err
		}
	}
	return roundTrip(conn, in, args...)
}

func roundTrip(out io.Writer, in *bufio.Reader, args ...string) (string, error) {
	text := fmt.Sprintf("*%d\r\n", len(args))
	for _, a := range args {
		text += fmt.Sprintf("$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(out, text); err != nil {
		return "", err
	}
	return readReply(in)
}

// readReply reads an answer of RESP2.
func readReply(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, text := line[0], strings.TrimSpace(line[1:])
	switch kind {
	case '+', ':':
		return text, nil
	case '-':
		return "", errors.New(text)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return "", err
	}
	if kind == '$' {
		b := make([]byte, n+len("\r\n"))
		_, err := io.ReadFull(in, b)
		return string(b[:n]), err
	}
	elems := make([]string, n)
	for i := range elems {
		if elems[i], err = readReply(in); err != nil {
			return "", err
		}
	}
	return strings.Join(elems, "\n"), nil
}

// Follow makes r a replica of primary, and waits until r has its data.
func (r *Redis) Follow(primary *Redis) {
	r.t.Helper()
	host, port, err := net.SplitHostPort(primary.Addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Call("REPLICAOF", host, port)
	testutil.Until(r.t, startLimit, "the replica's link to its primary", func() bool {
		return strings.Contains(r.Call("INFO", "replication"), "master_link_status:up")
	})
}

// Promote makes a replica a primary.
func (r *Redis) Promote() {
	r.t.Helper()
	r.Call("REPLICAOF", "NO", "ONE")
}

// slots is the number of hash slots of a cluster.
const slots = 16384

// StartRedisCluster starts a cluster of n primaries, and waits until all of them serve.
func StartRedisCluster(t testing.TB, n int, settings ...string) []*Redis {
	t.Helper()
	nodes := make([]*Redis, n)
	for i := range nodes {
		nodes[i] = StartRedis(t, append([]string{"cluster-enabled", "yes", "cluster-node-timeout", "2000",
			"cluster-port", testutil.FreePort(t)}, settings...)...)
	}
	for i, node := range nodes {
		node.Call("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		node.Call("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots/n), strconv.Itoa((i+1)*slots/n-1))
	}
	for _, node := range nodes[1:] {
		host, port, err := net.SplitHostPort(node.Addr)
		if err != nil {
			t.Fatal(err)
		}
		nodes[0].Call("CLUSTER", "MEET", host, port, node.Setting("cluster-port"))
	}
	for _, node := range nodes {
		node.WaitCluster(n)
	}
	return nodes
}

// Setting returns a value of the configuration.
func (r *Redis) Setting(name string) string {
	r.t.Helper()
	_, value, _ := strings.Cut(r.Call("CONFIG", "GET", name), "\n")
	return value
}

// WaitCluster waits until a node of a cluster knows n nodes and serves all slots.
func (r *Redis) WaitCluster(n int) {
	r.t.Helper()
	testutil.Until(r.t, startLimit, "the cluster", func() bool {
		info := r.Call("CLUSTER", "INFO")
		return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", n))
	})
}
