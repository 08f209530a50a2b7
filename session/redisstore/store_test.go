package redisstore_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/testutil/servers"
	"github.com/midair-go/midair/session"
	"github.com/midair-go/midair/session/sessiontest"
)

// The store keeps all promises of session.Store, on one server and on a cluster, with both protocols, from one process and
// from two.
func TestStoreKeepsThePromises(t *testing.T) {
	t.Parallel()
	engines := map[string][]string{
		"single":  addrsOf(servers.StartRedis(t, quick...)),
		"cluster": addrsOf(servers.StartRedisCluster(t, 3, quick...)...),
	}
	for engine, addrs := range engines {
		for _, protocol := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s/resp%d", engine, protocol), func(t *testing.T) {
				client := dial(t, protocol, addrs...)
				sessiontest.Run(t, func(t *testing.T) session.Store { return open(t, client, "") })
			})
			t.Run(fmt.Sprintf("%s/resp%d/two", engine, protocol), func(t *testing.T) {
				client := dial(t, protocol, addrs...)
				sessiontest.RunTwo(t, func(t *testing.T) (session.Store, []string) {
					prefix := rand.Text() + ":"
					env := []string{"ADDRS=" + strings.Join(addrs, ","), "PREFIX=" + prefix, fmt.Sprint("PROTOCOL=", protocol)}
					return open(t, client, prefix), env
				})
			})
		}
		t.Run(engine+"/security", func(t *testing.T) {
			client := dial(t, 3, addrs...)
			sessiontest.Security(t, func(t *testing.T) session.Store { return open(t, client, "") })
		})
	}
}
