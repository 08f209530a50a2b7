package redisstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/midair-go/midair/internal/testutil/servers"
	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/redisstore"
)

// A client with which a promise could not be kept is refused, with the setting to change.
func TestUnsuitableClientsAreRefused(t *testing.T) {
	t.Parallel()
	clients := map[string]redis.UniversalClient{
		"no client":             nil,
		"ContextTimeoutEnabled": redis.NewClient(&redis.Options{}),
		"ReadTimeout":           redis.NewClient(&redis.Options{ContextTimeoutEnabled: true, ReadTimeout: -1}),
		"WriteTimeout":          redis.NewClient(&redis.Options{ContextTimeoutEnabled: true, WriteTimeout: -2}),
		"set ContextTimeoutEnabled": redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: []string{"127.0.0.1:1"},
		}),
		"ReadOnly": redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: []string{"127.0.0.1:1"}, ContextTimeoutEnabled: true, ReadOnly: true,
		}),
		"RouteByLatency": redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: []string{"127.0.0.1:1"}, ContextTimeoutEnabled: true, RouteByLatency: true,
		}),
		"Ring": redis.NewRing(&redis.RingOptions{
			Addrs: map[string]string{"a": "127.0.0.1:1"}, ContextTimeoutEnabled: true,
		}),
	}
	for word, client := range clients {
		_, err := redisstore.New(client, redisstore.Options{})
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("a client for %q: %v", word, err)
		}
		if client != nil {
			client.Close()
		}
	}
}

// All returns each record of the store once, from one server and from each node of a cluster: not the secret, not what is
// expired, and not what has another prefix, whatever characters the prefixes have.
func TestAllReturnsEachRecordOnce(t *testing.T) {
	t.Parallel()
	engines := map[string][]string{
		"single":  addrsOf(servers.StartRedis(t, quick...)),
		"cluster": addrsOf(servers.StartRedisCluster(t, 3, quick...)...),
	}
	for engine, addrs := range engines {
		t.Run(engine, func(t *testing.T) {
			client := dial(t, 3, addrs...)
			store, other := open(t, client, `a[b]*?\:`), open(t, client, `abxy\:`)
			if _, err := store.Secret(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := map[string]uint64{}
			for i := range 1000 {
				id := fmt.Sprint(i, strings.Repeat("x", i%200))
				want[id] = createWith(t, store, id, time.Hour)
				createWith(t, other, id, time.Hour)
			}
			createWith(t, store, "expired", -time.Hour)
			for rec, err := range store.All(t.Context()) {
				id := string(rec.Data)
				if err != nil || want[id] != rec.Rev {
					t.Fatalf("%q at revision %d, want %d: %v", id, rec.Rev, want[id], err)
				}
				delete(want, id)
			}
			if len(want) > 0 {
				t.Fatalf("%d records are missing", len(want))
			}
			for range store.All(t.Context()) {
				break // nothing more is read
			}
		})
	}
}

// createWith makes a record whose data are its id.
func createWith(t *testing.T, store *redisstore.Store, id string, life time.Duration) uint64 {
	t.Helper()
	rev, err := store.Create(t.Context(), id, []byte(id), time.Now().Add(life))
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// All processes get the same secret, and it stays.
func TestTheSecretStays(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	first, err := open(t, dial(t, 3, server.Addr), "p:").Secret(t.Context())
	if err != nil || len(first) < 32 {
		t.Fatalf("a secret of %d bytes: %v", len(first), err)
	}
	server.Kill()
	server.Start()
	second, err := open(t, dial(t, 2, server.Addr), "p:").Secret(t.Context())
	if err != nil || string(second) != string(first) {
		t.Fatalf("another secret: %v", err)
	}
	if ttl := server.Call("TTL", "p:#secret"); ttl != "-1" {
		t.Fatalf("the secret has %s seconds to live", ttl)
	}
}

// What is under the key of a record and is none is an error, and is not overwritten.
func TestForeignValuesAreLeftAlone(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, quick...)
	store := open(t, dial(t, 3, server.Addr), "p:")
	server.Call("SET", "p:text", "something else, which is not a session")
	server.Call("HSET", "p:hash", "k", "v")
	for _, id := range []string{"text", "hash"} {
		if rec, err := store.Load(t.Context(), id); err == nil || errors.Is(err, session.ErrNotFound) {
			t.Errorf("Load of %s = %q, %v", id, rec.Data, err)
		}
		if _, err := store.Create(t.Context(), id, nil, time.Now().Add(time.Hour)); err == nil {
			t.Errorf("Create over %s", id)
		}
		if _, err := store.Swap(t.Context(), id, 1, nil, time.Now().Add(time.Hour)); err == nil {
			t.Errorf("Swap over %s", id)
		}
	}
	if got := server.Call("GET", "p:text"); got != "something else, which is not a session" {
		t.Errorf("the value is %q", got)
	}
}

// The record ends with its key, so that the server needs no visitor to remove it.
func TestTheServerExpiresRecords(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, quick...)
	store := open(t, dial(t, 3, server.Addr), "p:")
	expires := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	rev := create(t, store, "id")
	if _, err := store.Swap(t.Context(), "id", rev, nil, expires); err != nil {
		t.Fatal(err)
	}
	if got := server.Call("PEXPIRETIME", "p:id"); got != fmt.Sprint(expires.UnixMilli()) {
		t.Errorf("after Swap it expires at %s, want %d", got, expires.UnixMilli())
	}
	expires = expires.Add(time.Hour)
	if err := store.Touch(t.Context(), "id", expires); err != nil {
		t.Fatal(err)
	}
	if got := server.Call("PEXPIRETIME", "p:id"); got != fmt.Sprint(expires.UnixMilli()) {
		t.Errorf("after Touch it expires at %s, want %d", got, expires.UnixMilli())
	}
}
