package upgrade

import (
	"log/slog"

	"github.com/cloudflare/tableflip"
)

// parts are the things that a program and its generation share. Each part has one job. A part that several goroutines change has a lock
// of its own.
type parts struct {
	opts Options
	log  *slog.Logger
	tel  *telemetry
	tf   *tableflip.Upgrader // nil where upgrades are not supported

	origin    origin    // where this process comes from
	estate    estate    // what passes on
	history   history   // builds and processes of before
	traffic   traffic   // what servers exchange with other generations
	announcer announcer // what the service manager is told
	control   *control  // what callers ask for
	checks    checks
	shown     shown // what Status returns
}
