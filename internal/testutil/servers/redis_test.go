package servers_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil/servers"
)

// A server keeps its address and its data when it is killed, stopped, suspended and started again.
func TestRedisKeepsAddressAndData(t *testing.T) {
	r := servers.StartRedis(t)
	addr := r.Addr
	r.Call("SET", "k", "v")
	r.Kill()
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Fatal("a killed server accepts connections")
	}
	r.Start()
	if got := r.Call("GET", "k"); got != "v" || r.Addr != addr {
		t.Fatalf("after Kill and Start: %q at %s, want v at %s", got, r.Addr, addr)
	}
	r.Restart()
	if got := r.Call("GET", "k"); got != "v" {
		t.Fatalf("after Restart: %q", got)
	}
	wantSilent(t, r)
}

// wantSilent checks that a suspended server accepts connections and answers nothing.
func wantSilent(t *testing.T, r *servers.Redis) {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r.Suspend()
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatal("a suspended server answers")
	}
	r.Continue()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatalf("a server that was continued: %v", err)
	}
}

// A replica has the data of its primary, and takes over when the primary is killed.
func TestRedisReplicaTakesOver(t *testing.T) {
	primary, replica := servers.StartRedis(t), servers.StartRedis(t)
	primary.Call("SET", "k", "v")
	replica.Follow(primary)
	if got := replica.Call("GET", "k"); got != "v" {
		t.Fatalf("the replica has %q", got)
	}
	primary.Kill()
	replica.Promote()
	replica.Call("SET", "k", "w")
}

// A cluster of three serves all slots, and each key by one node.
func TestRedisClusterServes(t *testing.T) {
	nodes := servers.StartRedisCluster(t, 3)
	for _, node := range nodes {
		if info := node.Call("CLUSTER", "INFO"); !strings.Contains(info, "cluster_size:3") {
			t.Fatal(info)
		}
	}
}
