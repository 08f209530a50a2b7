package redisstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/internal/testutil/servers"
	"github.com/midair-go/midair/session/redisstore"
)

// dialWith makes a client with options, which honours deadlines, and closes it at the end of the test.
func dialWith(t *testing.T, o redis.Options) *redis.Client {
	t.Helper()
	o.ContextTimeoutEnabled = true
	client := redis.NewClient(&o)
	t.Cleanup(func() { client.Close() })
	return client
}

// When the network swallows everything, calls end by their deadline; when it does not any more, the store works.
func TestASilentNetworkIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	p := newProxy(t, servers.StartRedis(t, quick...).Addr)
	store := open(t, dial(t, 3, p.addr), "")
	rev, swapped := create(t, store, "id"), create(t, store, swapping)
	p.silent.Store(true)
	wantFailing(t, store, swapped, isTimeout, every...)
	p.silent.Store(false)
	wantWorking(t, store, "id", rev)
}

// When all connections of the client are taken, calls end by their deadline.
func TestAnExhaustedPoolIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	client := dialWith(t, redis.Options{Addr: servers.StartRedis(t, quick...).Addr, PoolSize: 1, MaxActiveConns: 1})
	store := open(t, client, "")
	rev, swapped := create(t, store, "id"), create(t, store, swapping)
	taken := client.Conn()
	if err := taken.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	wantFailing(t, store, swapped, isTimeout, every...)
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	wantWorking(t, store, "id", rev)
}

// A name that cannot be resolved is an error of net, and no wait beyond the deadline.
func TestAnUnknownHostFailsInTime(t *testing.T) {
	t.Parallel()
	store := open(t, dialWith(t, redis.Options{Addr: "no-such-host.invalid:6379"}), "")
	wantFailing(t, store, 1, func(err error) bool {
		var dns *net.DNSError
		return errors.As(err, &dns) || isTimeout(err)
	}, every...)
}

// A call whose context is canceled while the server is silent ends after the ReadTimeout of the client.
func TestACanceledCallEndsWithTheReadTimeout(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, quick...)
	store := open(t, dialWith(t, redis.Options{Addr: server.Addr, ReadTimeout: limit}), "")
	create(t, store, "id")
	server.Suspend()
	defer server.Continue()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(limit/10, cancel)
	begin := time.Now()
	_, err := store.Load(ctx, "id")
	if took := time.Since(begin); took > limit+slack || !errors.Is(err, context.Canceled) {
		t.Fatalf("Load took %v: %v", took, err)
	}
}

// A server that loads its data after a restart says so, and the error is that one.
func TestALoadingServerSaysSo(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, append(quick, "key-load-delay", "10000", "loading-process-events-interval-bytes", "1024")...)
	store := open(t, dial(t, 3, server.Addr), "")
	rev, swapped := create(t, store, "id"), create(t, store, swapping)
	for i := range 200 {
		fill := make([]byte, 2048) // the server looks for clients after each of these
		rand.Read(fill)
		if _, err := store.Create(t.Context(), strconv.Itoa(i), fill, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	server.Call("SAVE")
	server.Kill()
	server.Launch()
	testutil.Until(t, back, "a server that loads", func() bool {
		return redis.IsLoadingError(inTime(t, "Load", calls(store, "id", swapped)["Load"]))
	})
	wantFailing(t, store, swapped, redis.IsLoadingError, "Create", "Swap")
	server.Wait(back)
	wantWorking(t, store, "id", rev)
}

// A server that wants another password says so, and the store works when the client has it. A client without one says so too.
func TestAMissingPasswordIsAnError(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, append(quick, "requirepass", "secret")...)
	wantFailing(t, open(t, dial(t, 3, server.Addr), ""), 1, redis.IsAuthError, every...)
	password := "wrong"
	store := open(t, dialWith(t, redis.Options{
		Addr: server.Addr, CredentialsProvider: func() (string, string) { return "", password },
	}), "")
	wantFailing(t, store, 1, redis.IsAuthError, every...)
	password = "secret"
	wantWorking(t, store, "id", create(t, store, "id"))
}

// A replica that takes over from a killed primary is found under the same name, has the records, and needs no restart.
func TestAFailoverNeedsNoRestart(t *testing.T) {
	t.Parallel()
	primary, replica := servers.StartRedis(t, quick...), servers.StartRedis(t, quick...)
	name := newProxy(t, primary.Addr) // as a name or an address that moves
	store := open(t, dial(t, 3, name.addr), "")
	rev, swapped := create(t, store, "id"), create(t, store, swapping)
	replica.Follow(primary)
	primary.Kill()
	wantFailing(t, store, swapped, func(error) bool { return true }, writes...)
	name.target.Store(replica.Addr)
	wantFailing(t, store, swapped, redis.IsReadOnlyError, writes...)
	replica.Promote()
	wantWorking(t, store, "id", rev)
}

// Sessions on the living nodes of a cluster fail with the rest, as the cluster is configured, and all of them are there when
// the cluster is complete again.
func TestAClusterComesBack(t *testing.T) {
	t.Parallel()
	nodes := servers.StartRedisCluster(t, 3, "appendonly", "yes")
	store := open(t, dial(t, 3, addrsOf(nodes...)...), "")
	revs := map[string]uint64{}
	for i := range 20 {
		id := strconv.Itoa(i)
		revs[id] = create(t, store, id)
	}
	nodes[1].Kill()
	testutil.Until(t, back, "a cluster that is down", func() bool { return clusterDown(t, store, revs) })
	nodes[1].Start()
	nodes[0].WaitCluster(3)
	for id, rev := range revs {
		wantWorking(t, store, id, rev)
	}
}

// clusterDown reports whether no record can be read.
func clusterDown(t *testing.T, store *redisstore.Store, revs map[string]uint64) bool {
	for id, rev := range revs {
		err := inTime(t, "Load", calls(store, id, rev)["Load"])
		if err == nil {
			return false
		}
		if !redis.IsClusterDownError(err) && !isDialError(err) {
			t.Fatalf("Load = %v", err)
		}
	}
	return true
}

// A server that has forgotten the scripts gets them again.
func TestForgottenScriptsAreSentAgain(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, quick...)
	store := open(t, dial(t, 3, server.Addr), "")
	for range 3 {
		server.Call("SCRIPT", "FLUSH")
		id := strconv.Itoa(int(time.Now().UnixNano()))
		wantWorking(t, store, id, create(t, store, id))
	}
}
