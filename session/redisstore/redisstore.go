// Package redisstore keeps the sessions of package session in Redis, or in another server with the protocol and the scripts of
// Redis, such as Valkey. The server may be a single server, a primary with replicas behind Sentinel, or a cluster.
//
//	client := redis.NewClient(&redis.Options{Addr: "redis:6379", ContextTimeoutEnabled: true})
//	store, err := redisstore.New(client, redisstore.Options{})
//	if err != nil {
//		return err
//	}
//	sm := session.NewManager(store, session.Options{})
//
// # What the server has to keep
//
// A record is a string under a key of its own, and each change of a record is one script, which the server runs as a whole. So
// two processes, or two versions of a program, lose no update. How much outlives a crash of the server depends on the
// configuration: with "appendfsync always" every answered write, with "everysec" all but the last second. Replicas get writes
// after the answer, so a failover may lose the last writes of the old primary, an end of a session among them. The settings
// min-replicas-to-write and min-replicas-max-lag limit how many. A revision lost by such a failover does not come back.
//
// Set maxmemory-policy to noeviction on a server that is to keep sessions. With another policy a server that is short of
// memory removes sessions, and their visitors are logged out. With noeviction the server refuses to write instead: every write
// returns an error, and sessions can still be read.
//
// The clock of the server decides when a record has expired, and no other clock. An expiry was computed by the clock of a
// host that wrote it, so a host whose clock is a minute ahead makes sessions that live a minute longer.
//
// # Errors
//
// Every call ends at the deadline of its context, whatever has become of the server. The client cannot break off a read, so a
// call whose context is canceled ends with the answer, or after ReadTimeout of the client. An error of the server is wrapped,
// and can be found by redis.IsOOMError and the like. Calls are repeated after an error of the network, up to MaxRetries of the
// client, or MaxRedirects of a cluster's client. A write whose answer was lost is made once, however often the call is repeated.
// If another writer came first between two attempts, the error says that nobody knows whether the write was made.
//
// # Goroutines
//
// A [Store] may be used from any number of goroutines, and starts none.
package redisstore

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/midair-go/midair/session"
)

// Options of a [Store]. The zero value works.
type Options struct {
	// Prefix is what the keys of all records begin with. Two services with the same prefix on one server share their
	// sessions. Default: "midair:session:".
	Prefix string
}

// A Store keeps sessions in Redis. [New] makes a Store.
type Store struct {
	client  redis.UniversalClient
	prefix  string
	retries int // how often a call is repeated after its first attempt
}

var _ session.Store = (*Store)(nil)

// New makes a Store on client, without connecting: Manager.Ready reports whether the server can be written. The caller closes
// client.
//
// New refuses a client with which a promise of [session.Store] could not be kept. The error says how to change the client.
// Refused are:
//   - a client that does not honour deadlines: ContextTimeoutEnabled is false, or ReadTimeout or WriteTimeout is below zero,
//   - a client that may read from replicas: ReadOnly, RouteByLatency or RouteRandomly,
//   - a [redis.Ring], which sends a key to another server when a server is down.
func New(client redis.UniversalClient, opts Options) (*Store, error) {
	s := &Store{client: client, prefix: cmp.Or(opts.Prefix, "midair:session:")}
	var err error
	switch c := client.(type) {
	case nil:
		err = errors.New("no client")
	case *redis.Client:
		o := c.Options()
		s.retries = o.MaxRetries
		err = checkDeadlines(o.ContextTimeoutEnabled, o.ReadTimeout, o.WriteTimeout)
	case *redis.ClusterClient:
		o := c.Options()
		s.retries = o.MaxRedirects
		err = checkDeadlines(o.ContextTimeoutEnabled, o.ReadTimeout, o.WriteTimeout)
		if o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			err = errors.New("a replica may not have the last write: leave out ReadOnly, RouteByLatency and RouteRandomly")
		}
	case *redis.Ring:
		err = errors.New("a Ring loses sessions when a server is down: use a cluster, or a server with replicas and Sentinel")
	default:
		s.retries = 3 // as a client has without options
	}
	if err != nil {
		return nil, fmt.Errorf("session: redis: %w", err)
	}
	return s, nil
}

func checkDeadlines(enabled bool, read, write time.Duration) error {
	if !enabled {
		return errors.New("the client ignores deadlines: set ContextTimeoutEnabled in its options")
	}
	if read <= 0 || write <= 0 {
		return errors.New("the client may wait for ever: leave out a ReadTimeout or WriteTimeout below zero")
	}
	return nil
}
