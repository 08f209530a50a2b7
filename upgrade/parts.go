package upgrade

import (
	"log/slog"

	"github.com/cloudflare/tableflip"
)

// parts is the data that the Upgrader, which the program holds, shares with the goroutine of Run. Each part has one purpose. A
// part that several goroutines change has its own lock.
type parts struct {
	opts Options
	log  *slog.Logger
	tel  *telemetry
	tf   *tableflip.Upgrader // nil where upgrades are not supported

	origin    origin    // how this process was started, and by which process
	estate    estate    // the listeners, values and files that the next generation receives
	history   history   // the previous build, and the older generations
	traffic   traffic   // connections and messages that go to other generations
	announcer announcer // notifies the service manager
	control   *control  // passes the calls of Upgrade, Commit, Abort and Close to the goroutine of Run
	checks    checks    // the conditions for taking over
	shown     shown     // a part of the result of Status
}
