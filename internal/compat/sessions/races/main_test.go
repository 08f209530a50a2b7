package races

import (
	"flag"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/midair-go/midair/internal/testutil"
)

var (
	increments = flag.Int("midair.increments", 1000, "how many increments of one session are made on each engine")
	meetings   = flag.Int("midair.races", 1000, "how many races run on each engine: logouts, and as many logins")
	peer       = flag.Int("midair.peer-races", 96, "the same for scs")
)

// TestMain fails if a goroutine, a descriptor or a child is left when all tests are over.
func TestMain(m *testing.M) {
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil { // otherwise each lost connection is a line of output
		panic(err)
	}
	testutil.Main(m, map[string]func() int{"site": siteRole})
}
