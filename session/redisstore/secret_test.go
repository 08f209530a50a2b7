package redisstore_test

import (
	"testing"
	"time"

	"github.com/midair-go/midair/internal/testutil/servers"
	"github.com/midair-go/midair/session/redisstore"
	"github.com/redis/go-redis/v9"
)

// The secret is read from a server that takes no writes: after a restart of the program visitors keep their sessions.
func TestTheSecretIsReadFromAServerThatTakesNoWrites(t *testing.T) {
	r := servers.StartRedis(t)
	c := redis.NewClient(&redis.Options{Addr: r.Addr, ContextTimeoutEnabled: true})
	defer c.Close()
	s, err := redisstore.New(c, redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := s.Secret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), "a", []byte("x"), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	r.Call("CONFIG", "SET", "maxmemory-policy", "noeviction")
	r.Call("CONFIG", "SET", "maxmemory", "1")
	got, err := s.Secret(t.Context())
	if string(got) != string(want) || err != nil {
		t.Errorf("the secret is there, and cannot be read: %v", err)
	}
}
