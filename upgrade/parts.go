package upgrade

import (
	"log/slog"

	"github.com/cloudflare/tableflip"
)

// parts is the data of an Upgrader. The methods of the Upgrader and the goroutine of Run share the data. Each part has one
// purpose. A part that several goroutines change has its own lock.
type parts struct {
	opts Options
	log  *slog.Logger
	tel  *telemetry
	tf   *tableflip.Upgrader // nil on platforms without upgrades

	origin    origin    // how this process was started, and by which process
	estate    estate    // the listeners, values and files that the next generation receives
	history   history   // the previous build, and the older generations
	traffic   traffic   // connections and messages that go to other generations
	announcer announcer // notifies the service manager
	control   *control  // passes calls such as Upgrade, Commit, Abort and Close to the goroutine of Run
	checks    checks    // the conditions for taking over
	shown     shown     // the part of Status that the generation and its attempts set
}
