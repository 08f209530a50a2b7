package redisstore_test

import (
	"crypto/rand"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/midair-go/midair/internal/testutil/servers"
	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/redisstore"
)

// quick are the settings of a server whose data need not outlive it.
var quick = []string{"appendonly", "no"}

// dial makes a client of the servers at addrs, a cluster's if there are several, that is closed at the end of the test.
func dial(t testing.TB, protocol int, addrs ...string) redis.UniversalClient {
	t.Helper()
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: addrs, Protocol: protocol, ContextTimeoutEnabled: true})
	t.Cleanup(func() { client.Close() })
	return client
}

// open makes a store, with a prefix of its own unless one is given.
func open(t testing.TB, client redis.UniversalClient, prefix string) *redisstore.Store {
	t.Helper()
	if prefix == "" {
		prefix = rand.Text() + ":"
	}
	store, err := redisstore.New(client, redisstore.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// openOther opens the store of the other process: the servers in ADDRS, with PREFIX, by the protocol in PROTOCOL.
func openOther() (session.Store, error) {
	protocol, err := strconv.Atoi(os.Getenv("PROTOCOL"))
	if err != nil {
		return nil, err
	}
	client := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: strings.Split(os.Getenv("ADDRS"), ","), Protocol: protocol, ContextTimeoutEnabled: true,
	})
	return redisstore.New(client, redisstore.Options{Prefix: os.Getenv("PREFIX")})
}

// addrsOf are the addresses of servers.
func addrsOf(nodes ...*servers.Redis) []string {
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Addr)
	}
	return addrs
}
