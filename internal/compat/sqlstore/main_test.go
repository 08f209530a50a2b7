package sqlstore

import (
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session/sessiontest"
)

// TestMain fails if a goroutine, a descriptor or a child is left when all tests are over.
func TestMain(m *testing.M) {
	if sessiontest.Serve(openOther) {
		return
	}
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil { // otherwise each lost connection is a line of output
		panic(err)
	}
	testutil.Main(m, map[string]func() int{"count": countRole, "setup": setupRole, "pace": paceRole})
}
