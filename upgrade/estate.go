package upgrade

import (
	"github.com/midair-go/midair/upgrade/internal/listener"
	"github.com/midair-go/midair/upgrade/internal/pidfile"
	"github.com/midair-go/midair/upgrade/internal/sdnotify"
	"github.com/midair-go/midair/upgrade/internal/state"
)

// estate is everything that a generation hands on to its successor, or needs for the handover.
type estate struct {
	listeners *listener.Set
	keeper    *state.Keeper
	resources resources
	pid       *pidfile.File
	room      room               // descriptors in reserve
	manager   *sdnotify.Notifier // the service manager; nil if there is none
}
