package versions

import (
	"log/slog"
	"testing"

	"github.com/midair-go/midair/internal/testutil"
	"github.com/midair-go/midair/session"
)

// TestMain fails if a goroutine, a descriptor or a child is left when all tests are over.
func TestMain(m *testing.M) { testutil.Main(m, nil) }

// quiet are options without a log.
var quiet = session.Options{Logger: slog.New(slog.DiscardHandler)}
